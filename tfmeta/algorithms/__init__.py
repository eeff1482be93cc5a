"""Learners: one file, one class, one paper each."""
