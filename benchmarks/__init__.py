"""Benchmarks of speed and reproductions of papers, each run as a command."""

import os

# TensorFlow reads this when it is loaded, which every command does later.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
