import pathlib
import subprocess
import sys

from absl import flags as absl_flags
from absl.testing import absltest
from absl.testing import parameterized

from trainers import anil
from trainers import bmaml
from trainers import emaml
from trainers import fomaml
from trainers import leo
from trainers import maml
from trainers import maml_plus_plus
from trainers import meta_sgd
from trainers import platipus
from trainers import presets
from trainers import reptile
from trainers.run import settings

TRAINERS = {
  "maml": maml,
  "fomaml": fomaml,
  "anil": anil,
  "meta_sgd": meta_sgd,
  "maml_plus_plus": maml_plus_plus,
  "reptile": reptile,
  "platipus": platipus,
  "emaml": emaml,
  "bmaml": bmaml,
  "leo": leo,
}


def parse(trainer, *arguments):
  values = absl_flags.FlagValues()
  TRAINERS[trainer].define(flag_values=values)
  values(["program", *arguments])
  return TRAINERS[trainer].read(values)


class FlagsTest(parameterized.TestCase):
  @parameterized.parameters(*TRAINERS)
  def test_defaults_are_a_run_on_the_embedded_data(self, trainer):
    read = parse(trainer)
    embeddings = "runs/pretrain/embeddings"
    self.assertEqual(read.dataset, embeddings if trainer == "leo" else "glyphs")
    self.assertEqual(read.workdir, f"runs/{trainer}")

  def test_maml_has_the_defaults_of_settings(self):
    expected = settings.Settings("MAML", workdir="runs/maml", hidden=[40, 40])
    self.assertEqual(parse("maml"), expected)

  def test_values_have_their_types(self):
    read = parse("maml", "--hidden=8,9", "--ways=7", "--clipvalue=10")
    self.assertEqual(read.hidden, [8, 9])
    self.assertEqual((read.ways, read.clipvalue), (7, 10.0))

  def test_units_that_are_no_numbers_are_named(self):
    with self.assertRaisesRegex(ValueError, "--hidden must.*--hidden=a,8"):
      parse("maml", "--hidden=a,8")

  def test_a_data_set_brings_its_defaults(self):
    read = parse("maml", "--dataset=sinusoid", "--query_shots=20")
    self.assertIsNone(read.ways)
    self.assertEqual((read.shots, read.query_shots), (10, 20))

  def test_the_command_line_goes_before_the_preset(self):
    read = parse("maml", "--preset=omniglot_5way_1shot", "--ways=3")
    self.assertEqual((read.dataset, read.ways), ("omniglot", 3))
    self.assertEqual(read.inner_loss_reduction, "sum_over_ways")

  def test_epochs_of_maml_plus_plus_are_those_of_the_run(self):
    read = parse("maml_plus_plus", "--steps_per_epoch=7")
    self.assertEqual(read.own["steps_per_epoch"], 7)

  def test_a_preset_has_the_published_numbers(self):
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
    (trainer, name)
    for trainer, named in presets.PRESETS.items()
    for name in named
  )
  def test_presets_name_flags_that_there_are(self, trainer, name):
    preset = presets.PRESETS[trainer][name]
    read = parse(trainer, f"--preset={name}")
    for key, value in preset.items():
      own = key in read.own
      self.assertEqual(read.own[key] if own else getattr(read, key), value)

  def test_the_preset_of_leo_has_the_published_numbers(self):
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

  def test_presets_of_bmaml_have_the_published_numbers(self):
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
    self.assertEqual(
      parse("bmaml", "--preset=sinusoid_100_tasks_5shot").own[
        "repulsion_scale"
      ],
      0.5,
    )

  def test_own_flags_become_constructor_arguments(self):
    self.assertEqual(parse("anil").own, {"first_order": False})
    read = parse("anil", "--adapted=block_4,head", "--first_order")
    self.assertEqual(
      read.own, {"adapted": ["block_4", "head"], "first_order": True}
    )

  def test_help_comes_without_tensorflow_and_shows_every_flag(self):
    root = pathlib.Path(__file__).parents[2]
    shown = subprocess.run(
      [sys.executable, "-X", "importtime", "-m", "trainers.reptile", "--help"],
      capture_output=True,
      text=True,
      cwd=root,
    )
    self.assertNotIn("tensorflow", shown.stderr)
    names = [option.name for option in settings.options()]
    for name in [*names, *parse("reptile").own, "inner_optimizer", "preset"]:
      switch = name in ("scale", "jit_compile")
      self.assertIn(f"--[no]{name}" if switch else f"--{name}", shown.stdout)


if __name__ == "__main__":
  absltest.main()
