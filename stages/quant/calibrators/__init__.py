"""Reductions of observed statistics to a range (min, max)."""
