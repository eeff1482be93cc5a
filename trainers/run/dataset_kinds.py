"""Names of data sets that have something in common, and what they refuse."""

SINUSOIDS = ("sinusoid", "varied_sinusoid")
REGRESSION = (*SINUSOIDS, "sinusoid_or_line")

IMAGENETS = ("mini_imagenet", "tiered_imagenet")
CIFARS = ("cifar_fs", "fc100")
OF_ONE_SIZE = (*IMAGENETS, *CIFARS)

# Of pairs of drawings, by the data sets that these come from.
PAIRS = {"glyph_pairs": "glyphs", "omniglot_pairs": "omniglot"}

ALL = ("glyphs", "omniglot", *OF_ONE_SIZE, *PAIRS, *REGRESSION)


def check_options(dataset, *, num_tasks, size) -> None:
  """Refuses options that the data set has no use for."""
  if num_tasks and dataset not in SINUSOIDS:
    raise ValueError(
      f"`num_tasks` is for {' and '.join(SINUSOIDS)} alone. Received: "
      f"num_tasks={num_tasks}, dataset={dataset!r}"
    )
  if size and dataset in OF_ONE_SIZE:
    raise ValueError(
      "`size` can not be given, as the images of this data set have one. "
      f"Received: size={size}, dataset={dataset!r}"
    )
