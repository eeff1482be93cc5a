"""Programs that the speed benchmark compares, each run in its own process."""
