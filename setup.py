import pathlib
import re

import setuptools

HERE = pathlib.Path(__file__).parent


def version():
  """Read from the source text: importing tfmeta would need TensorFlow."""
  source = (HERE / "tfmeta" / "__init__.py").read_text(encoding="utf-8")
  found = re.search(r'^__version__ = "(.+)"$', source, re.MULTILINE)
  if found is None:
    raise ValueError('tfmeta/__init__.py has no line `__version__ = "..."`.')
  return found.group(1)


setuptools.setup(
  name="tfmeta",
  version=version(),
  description="Meta-learning with TensorFlow and Keras 3.",
  long_description=(HERE / "README.md").read_text(encoding="utf-8"),
  long_description_content_type="text/markdown",
  license="Apache-2.0",
  packages=setuptools.find_packages(
    include=["tfmeta", "tfmeta.*", "trainers", "trainers.*"]
  ),
  package_data={"tfmeta": ["py.typed", "data/splits/*.json"]},
  python_requires=">=3.11",
  install_requires=[
    "absl-py",
    "keras>=3",
    "numpy",
    "tensorflow>=2.16",
    "tensorflow-datasets",
    "importlib_resources",  # TFDS imports it without declaring it.
    "tensorflow-probability",
    "tf-keras",  # TFP cannot be imported without it.
    "matplotlib",  # The trainers draw pictures ...
    "tensorboard",  # ... and write logs.
  ],
  extras_require={
    "benchmarks": ["jax", "torch"],
    "dev": ["pre-commit", "pyright[nodejs]", "pytest", "pytest-xdist", "ruff"],
  },
  classifiers=[
    "Development Status :: 3 - Alpha",
    "Intended Audience :: Science/Research",
    "License :: OSI Approved :: Apache Software License",
    "Programming Language :: Python :: 3.11",
    "Programming Language :: Python :: 3.12",
    "Programming Language :: Python :: 3.13",
    "Topic :: Scientific/Engineering :: Artificial Intelligence",
    "Typing :: Typed",
  ],
)
