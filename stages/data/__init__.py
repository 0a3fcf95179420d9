"""Data sets as inputs and labels, one file a data set."""
