"""Arithmetic of foreign runtimes: a folder a profile, with the operators that it computes in its own way."""
