"""Data sets as uint8 images and labels, one file a data set."""
