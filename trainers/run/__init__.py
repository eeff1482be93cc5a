"""The machinery that all trainers share."""
