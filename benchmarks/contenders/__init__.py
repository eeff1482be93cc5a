"""What the speed benchmark compares, each a process of its own."""
