"""Speed and reproduction: commands, no part of the installed package."""
