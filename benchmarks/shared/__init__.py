"""Code that two or more benchmarks share."""
