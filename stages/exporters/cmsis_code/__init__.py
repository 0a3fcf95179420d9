"""A program as calls of CMSIS-NN, Arm's kernels for Cortex-M, version 19.1 of its interface."""
