"""Meta-learners and their base classes; each paper has a file of its own."""
