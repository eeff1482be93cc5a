"""A shim for tools that look for it: pyproject.toml holds the metadata."""

import setuptools

setuptools.setup()
