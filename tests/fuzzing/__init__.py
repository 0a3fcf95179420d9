"""Files from elsewhere changed at random, and read, by one command: ``python -m tests.fuzzing --loader idx``.

Whatever bytes a file has, loading it gives what it holds or one clear error, in little memory and time. Each
loader is a module of `tests.fuzzing.loaders` with a function ``case``; a new one is one more file there.
`tests.test_fuzzing` runs some cases of each; long runs are by hand, with ``--seconds 600``.
"""
