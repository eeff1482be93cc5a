"""miniImageNet and tieredImageNet, read from files that the user provides."""
