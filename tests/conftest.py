"""What every test process starts with, before torch is imported."""

import os

# Workers share the cores, and runs started by tests with them; sums of floats in one order give one result.
os.environ.setdefault("OMP_NUM_THREADS", "1")
