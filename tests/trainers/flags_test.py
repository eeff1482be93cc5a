import pathlib
import subprocess
import sys

from absl import flags as absl_flags
from absl.testing import absltest
from absl.testing import parameterized

from trainers import anil
from trainers import bmaml
from trainers import emaml
from trainers import fine_tuning
from trainers import fomaml
from trainers import imaml
from trainers import leo
from trainers import maml
from trainers import maml_plus_plus
from trainers import meta_sgd
from trainers import platipus
from trainers import proto_net
from trainers import reptile
from trainers.run import configuration
from trainers.run import data_sets
from trainers.run import flags
from trainers.run import option

MODULES = (
  maml,
  fomaml,
  anil,
  meta_sgd,
  maml_plus_plus,
  reptile,
  platipus,
  emaml,
  bmaml,
  leo,
  imaml,
  proto_net,
  fine_tuning,
)
TRAINERS = {module.TRAINER.name: module.TRAINER for module in MODULES}


def parse(trainer, *arguments):
  values = absl_flags.FlagValues()
  flags.define(TRAINERS[trainer], values)
  values(["program", *arguments])
  return flags.read(TRAINERS[trainer], values)


class FlagsTest(parameterized.TestCase):
  @parameterized.parameters(*TRAINERS)
  def test_defaults_are_a_run_on_the_embedded_data(self, trainer):
    read = parse(trainer)
    embeddings = "runs/pretrain/embeddings"
    self.assertEqual(read.dataset, embeddings if trainer == "leo" else "glyphs")
    self.assertEqual(read.workdir, f"runs/{trainer}")

  def test_maml_has_the_defaults_of_the_configuration(self):
    expected = configuration.Configuration(
      "MAML", workdir="runs/maml", hidden=[40, 40]
    )
    self.assertEqual(parse("maml"), expected)

  def test_values_have_their_types(self):
    read = parse("maml", "--ways=7", "--clipvalue=10")
    self.assertEqual((read.ways, read.clipvalue), (7, 10.0))
    read = parse("maml", "--dataset=sinusoid", "--hidden=8,9")
    self.assertEqual(read.hidden, [8, 9])

  @parameterized.parameters("maml", "fomaml", "anil", "emaml", "reptile")
  def test_options_of_the_inner_loop_reach_the_learner(self, trainer):
    read = parse(
      trainer,
      "--inner_optimizer=adam",
      "--inner_clipnorm=2",
      "--support_batch_size=3",
    )
    self.assertEqual(read.own["inner_optimizer"], "adam")
    self.assertEqual(read.own["inner_clipnorm"], 2.0)
    self.assertEqual(read.own["support_batch_size"], 3)

  @parameterized.parameters("maml", "fomaml", "anil", "emaml")
  def test_without_them_the_configuration_is_as_before(self, trainer):
    self.assertNoCommonElements(
      parse(trainer).own, ["inner_optimizer", "support_batch_size"]
    )

  def test_units_that_are_no_numbers_are_named(self):
    with self.assertRaisesRegex(ValueError, "`hidden` must.*--hidden=a,8"):
      parse("maml", "--dataset=sinusoid", "--hidden=a,8")

  def test_a_data_set_brings_its_defaults(self):
    read = parse("maml", "--dataset=sinusoid", "--query_shots=20")
    self.assertIsNone(read.ways)
    self.assertEqual((read.shots, read.query_shots), (10, 20))

  def test_a_data_set_may_bring_defaults_for_one_trainer(self):
    rates = {
      trainer: parse(trainer, "--dataset=sinusoid_or_line").inner_learning_rate
      for trainer in ("maml", "bmaml")
    }
    self.assertEqual(rates, {"maml": 0.001, "bmaml": 0.0001})

  def test_the_command_line_overrides_the_preset(self):
    read = parse("maml", "--preset=omniglot_5way_1shot", "--ways=3")
    self.assertEqual((read.dataset, read.ways), ("omniglot", 3))
    self.assertEqual(read.inner_loss_reduction, "sum_over_ways")

  def test_epochs_of_maml_plus_plus_are_those_of_the_run(self):
    read = parse("maml_plus_plus", "--steps_per_epoch=7")
    self.assertEqual(read.own["steps_per_epoch"], 7)

  def test_own_flags_become_constructor_arguments(self):
    self.assertEqual(parse("anil").own, {"first_order": False})
    read = parse("anil", "--adapted=conv_3,head", "--first_order")
    self.assertEqual(
      read.own, {"adapted": ["conv_3", "head"], "first_order": True}
    )

  def test_normalization_and_network_normalization_are_two_things(self):
    read = parse("maml", "--normalization=none")
    self.assertEqual(read.normalization, "none")
    self.assertEqual(read.network_normalization, "batch")
    read = parse("maml", "--network_normalization=none")
    self.assertIsNone(read.normalization)
    self.assertEqual(read.network_normalization, "none")

  def test_help_comes_without_tensorflow_and_shows_every_flag(self):
    root = pathlib.Path(__file__).parents[2]
    shown = subprocess.run(
      [sys.executable, "-X", "importtime", "-m", "trainers.reptile", "--help"],
      capture_output=True,
      text=True,
      cwd=root,
    )
    for name in ("tensorflow", "keras", "matplotlib"):
      self.assertNotRegex(shown.stderr, rf"\| +{name}\n")
    fields = option.of_fields(configuration.Configuration)
    names = [one.name for one in fields]
    for name in [*names, *parse("reptile").own, "inner_optimizer", "preset"]:
      switch = name in ("scale", "jit_compile")
      self.assertIn(f"--[no]{name}" if switch else f"--{name}", shown.stdout)

  @parameterized.parameters(
    ("maml", "omniglt", "Did you mean omniglot?"),
    ("maml", "data/birds", "dataset='data/birds', which does not exist"),
    ("maml", "birds", r"dataset='birds'\n"),
    ("leo", "omniglot", "which `python -m trainers.pretrain` writes"),
  )
  def test_a_wrong_data_set_is_said_without_tensorflow(
    self, trainer, dataset, sentence
  ):
    module, flag = f"trainers.{trainer}", f"--dataset={dataset}"
    shown = subprocess.run(
      [sys.executable, "-X", "importtime", "-m", module, flag],
      capture_output=True,
      text=True,
      cwd=pathlib.Path(__file__).parents[2],
    )
    self.assertEqual(shown.returncode, 1)
    self.assertNotRegex(shown.stderr, r"\| +tensorflow\n")
    self.assertRegex(shown.stderr, sentence)


# Flags of a trainer that change nothing in that run, and those that do.
IGNORED = (
  # These flags belong to another kind of data set.
  ("maml", ["--dataset=sinusoid", "--filters=8"], "filters"),
  ("maml", ["--dataset=sinusoid", "--pooling=max"], "pooling"),
  ("maml", ["--dataset=sinusoid", "--noscale"], "scale"),
  ("maml", ["--dataset=sinusoid", "--head_input=mean"], "head_input"),
  ("maml", ["--dataset=sinusoid", "--ways=3"], "ways"),
  ("maml", ["--dataset=sinusoid", "--normalization=none"], "normalization"),
  (
    "maml",
    ["--dataset=sinusoid", "--network_normalization=layer"],
    "network_normalization",
  ),
  ("maml", ["--hidden=8"], "hidden"),
  # These flags belong to another data set of the same kind.
  ("maml", ["--data_dir=/x"], "data_dir"),
  ("maml", ["--dataset=omniglot", "--manual_dir=/x"], "manual_dir"),
  ("maml", ["--rotations=none"], "rotations"),
  ("maml", ["--dataset=omniglot_pairs", "--rotations=none"], "rotations"),
  ("maml", ["--size=28"], "size"),
  ("maml", ["--dataset=cifar_fs", "--size=28"], "size"),
  ("maml", ["--dataset=omniglot", "--channels=1"], "channels"),
  ("maml", ["--num_tasks=9"], "num_tasks"),
  ("maml", ["--dataset=sinusoid_or_line", "--num_tasks=9"], "num_tasks"),
  # These flags belong to another network, learner or schedule.
  ("maml", ["--momentum=0.5"], "momentum"),
  (
    "maml_plus_plus",
    ["--momentum=0.5", "--normalization=per_step_transductive"],
    "momentum",
  ),
  (
    "maml",
    ["--normalization=support_stats", "--network_normalization=layer"],
    "normalization",
  ),
  ("maml", ["--network_normalization=none", "--noscale"], "scale"),
  (
    "maml_plus_plus",
    ["--dataset=sinusoid", "--adapt_normalization"],
    "adapt_normalization",
  ),
  ("bmaml", ["--meta_loss=nll", "--leader_steps=2"], "leader_steps"),
  (
    "bmaml",
    ["--dataset=sinusoid", "--inner_loss_reduction=mean"],
    "inner_loss_reduction",
  ),
  (
    "bmaml",
    ["--prior=hierarchical", "--inner_loss_reduction=mean"],
    "inner_loss_reduction",
  ),
  ("bmaml", ["--num_particles=1", "--repulsion_scale=2"], "repulsion_scale"),
  (
    "maml_plus_plus",
    ["--inner_steps=1", "--multi_step_epochs=1"],
    "multi_step_epochs",
  ),
  (
    "leo",
    ["--finetuning_steps=0", "--finetuning_learning_rate=1"],
    "finetuning_learning_rate",
  ),
  (
    "maml",
    ["--learning_rate_decay=none", "--final_learning_rate=1e-5"],
    "final_learning_rate",
  ),
  # These flags belong to another strategy.
  ("maml", ["--tpu=there"], "tpu"),
  ("maml", ["--startup_seconds=9"], "startup_seconds"),
  (
    "maml",
    ["--strategy=multi_worker", "--steps_per_execution=2"],
    "steps_per_execution",
  ),
)
USED = (
  ("maml", ["--filters=8", "--pooling=max", "--noscale", "--head_input=mean"]),
  ("maml", ["--normalization=support_stats", "--ways=3"]),
  ("maml", ["--network_normalization=layer", "--noscale"]),
  ("maml", ["--dataset=sinusoid", "--hidden=8", "--num_tasks=9"]),
  ("maml", ["--dataset=varied_sinusoid", "--num_tasks=9"]),
  ("maml", ["--dataset=omniglot", "--data_dir=/x", "--rotations=none"]),
  ("maml", ["--dataset=omniglot", "--size=14"]),
  ("maml", ["--dataset=omniglot_pairs", "--data_dir=/x"]),
  ("maml", ["--dataset=mini_imagenet", "--data_dir=/x", "--manual_dir=/y"]),
  ("maml", ["--dataset=fc100", "--data_dir=/x"]),
  # A folder, which need not exist yet.
  ("maml", ["--dataset=/x", "--size=28", "--channels=1", "--filters=8"]),
  ("maml_plus_plus", ["--momentum=0.5", "--normalization=per_step_running"]),
  ("maml_plus_plus", ["--adapt_normalization"]),
  ("bmaml", ["--leader_steps=2", "--inner_loss_reduction=mean"]),
  ("bmaml", ["--num_particles=2", "--repulsion_scale=2"]),
  ("maml_plus_plus", ["--multi_step_epochs=1"]),
  ("leo", ["--finetuning_learning_rate=1"]),
  ("maml", ["--final_learning_rate=1e-5"]),
  ("maml", ["--strategy=tpu", "--tpu=there"]),
  ("maml", ["--strategy=multi_worker", "--startup_seconds=9"]),
  ("maml", ["--strategy=multi_worker", "--steps_per_execution=1"]),
)


class FlagsWithoutEffectTest(parameterized.TestCase):
  @parameterized.parameters(*IGNORED)
  def test_a_flag_that_would_change_nothing_is_refused(
    self, trainer, arguments, name
  ):
    # `num_tasks` and `size` are refused by the configuration itself.
    with self.assertRaisesRegex(
      ValueError,
      rf"^`{name}` (would have no|can be given).*Received: .*{name}=",
    ):
      parse(trainer, *arguments)

  @parameterized.parameters(*USED)
  def test_a_flag_that_changes_something_is_taken(self, trainer, arguments):
    parse(trainer, *arguments)

  @parameterized.parameters(*TRAINERS)
  def test_values_that_nobody_gave_are_not_refused(self, trainer):
    for dataset in data_sets.DATA_SETS:
      parse(trainer, f"--dataset={dataset}")


class PresetsTest(parameterized.TestCase):
  def test_maml_plus_plus_has_the_published_numbers(self):
    # omniglot_maml++-omniglot_1_8_0.1_64_20_0.json of the released code.
    read = parse("maml_plus_plus", "--preset=omniglot_20way_1shot")
    self.assertEqual((read.ways, read.shots, read.query_shots), (20, 1, 1))
    self.assertEqual((read.meta_batch_size, read.filters), (8, 64))
    self.assertEqual((read.inner_steps, read.inner_learning_rate), (5, 0.1))
    self.assertEqual((read.epochs, read.steps_per_epoch), (100, 500))
    self.assertEqual(
      (read.learning_rate, read.final_learning_rate), (1e-3, 1e-5)
    )
    self.assertEqual(read.own["multi_step_epochs"], 10)
    self.assertTrue(read.own["learn_rates"])

  @parameterized.parameters(
    (trainer.name, name)
    for trainer in TRAINERS.values()
    for name in trainer.presets
  )
  def test_every_value_reaches_the_run(self, trainer, name):
    preset = TRAINERS[trainer].presets[name]
    read = parse(trainer, f"--preset={name}")
    for key, value in preset.items():
      own = key in read.own
      self.assertEqual(read.own[key] if own else getattr(read, key), value)

  @parameterized.parameters(
    (trainer.name, name)
    for trainer in TRAINERS.values()
    for name in trainer.presets
  )
  def test_every_network_has_batch_normalization(self, trainer, name):
    read = parse(trainer, f"--preset={name}")
    self.assertEqual(read.network_normalization, "batch")

  def test_every_trainer_with_presets_names_their_source(self):
    for trainer in TRAINERS.values():
      self.assertEqual(bool(trainer.presets), bool(trainer.source))

  def test_leo_has_the_published_numbers(self):
    # README of the released code, 5 ways, 1 shot.
    read = parse("leo", "--preset=mini_imagenet_5way_1shot")
    self.assertEqual((read.ways, read.shots, read.meta_batch_size), (5, 1, 12))
    self.assertEqual(read.learning_rate, 2.739071e-4)
    self.assertEqual(read.own["kl_weight"], 0.756143)
    self.assertEqual(read.own["encoder_penalty"], 5.756821e-6)
    self.assertEqual(read.own["orthogonality"], 0.188103)
    self.assertEqual(read.own["l2"], 3.623413e-10)
    self.assertEqual(read.own["dropout_rate"], 0.307651)
    self.assertEqual(read.own["variant"], "release")

  def test_bmaml_and_emaml_have_the_published_numbers(self):
    # Defaults of bmaml_main.py and emaml_main.py, and how they are called.
    for trainer in ("bmaml", "emaml"):
      read = parse(trainer, "--preset=sinusoid_100_tasks_5shot")
      self.assertEqual((read.num_tasks, read.own["num_particles"]), (100, 10))
      self.assertEqual((read.shots, read.train_query_shots), (5, 5))
      self.assertEqual(read.hidden, [40, 40, 40])
      self.assertEqual((read.inner_steps, read.inner_learning_rate), (1, 1e-3))
      self.assertEqual(read.meta_batch_size, 10)
      self.assertEqual(read.epochs * read.steps_per_epoch, 100_000)
      self.assertAlmostEqual(read.final_learning_rate, 1.326e-4, places=7)
    read = parse("bmaml", "--preset=sinusoid_100_tasks_5shot")
    self.assertEqual(read.own["repulsion_scale"], 0.5)


if __name__ == "__main__":
  absltest.main()
