"""What the trainers share: run configuration, flags, data sets, training."""
