"""Runs of policies that learn to adapt."""
