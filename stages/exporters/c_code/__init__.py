"""A program as C source: helper functions, one an operator, lie as they are emitted in ``source/``."""
