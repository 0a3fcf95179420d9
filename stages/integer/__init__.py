"""Integer-only programs in numpy: format, fixed-point arithmetic, reference interpreter."""
