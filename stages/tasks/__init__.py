"""Tasks: what a network's outputs mean, how good they are, and what is minimized in training; one a file."""
