"""A program as C++ over gemmlowp, and as numbers for an engine of one's own."""
