"""miniImageNet and tieredImageNet, from files that people have."""
