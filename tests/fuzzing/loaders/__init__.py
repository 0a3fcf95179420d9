"""A module a loader: ``case(rng, folder)`` makes a changed file, reads it, and says how it went.

It returns a word of `tests.fuzzing.running.FINE`, or what went wrong; any error that leaves it is a finding.
``MEMORY`` bounds a child's address space in bytes where 6 GiB are not right, ``CASES`` is how many run in the
suite, and ``prepare()`` is what is done once before the first case.
"""
