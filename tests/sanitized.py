"""A pytest plugin that compiles the native engine with AddressSanitizer and UBSan.

    LD_PRELOAD=$(c++ -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 \\
        python -m pytest -p tests.sanitized tests/stages/backends
"""

from __future__ import annotations

from stages.backends.native_kernels import library

SANITIZERS = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")

library.FLAGS = (*library.FLAGS, *SANITIZERS)
