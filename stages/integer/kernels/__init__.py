"""Reference kernels, one integer operator a file."""
