"""Pruning: which weights stay, when the others go, and the training in between."""
