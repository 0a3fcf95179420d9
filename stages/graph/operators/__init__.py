"""What each operator is, one family a file: its kind, float function, lowering, and level function.

A module here lists what it has in ``OPERATORS``; `stages.graph.operators.registry` finds it. The numpy half
of an operator (signature, shape, check, bound, kernel) is `stages.integer.kernels`.
"""
