"""Schemes: from a range (min, max) to scale, zero point and integers."""
