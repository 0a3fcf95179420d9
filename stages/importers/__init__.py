"""Readers of foreign network files, one file a format."""
