"""A pytest plugin that compiles the native engine with AddressSanitizer and UBSan.

    LD_PRELOAD=$(c++ -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 \\
        python -m pytest -p tests.sanitized tests/stages/backends/native_kernels \\
        tests/stages/backends/test_native.py

`tests.test_fuzzing` runs some programs so in every run of the tests, and
``python -m tests.fuzzing --loader program --sanitize`` as many as are asked for.
"""

from __future__ import annotations

import os

from stages.backends.native_kernels import library

SANITIZERS = ("-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
"""Less optimized: it is compiled in a fifth of the time, and touches the same bytes."""

library.FLAGS = (*library.FLAGS, *SANITIZERS)
os.environ.pop("LD_PRELOAD", None)  # it is loaded here; the compiler is slow with it
