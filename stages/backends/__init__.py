"""Executors of an integer program; all agree on the integers."""
