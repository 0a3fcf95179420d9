"""Measuring beside others: the same work by several competitors, in turns, with medians and spreads."""
