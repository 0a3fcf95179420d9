"""Network architectures, one file a family."""
