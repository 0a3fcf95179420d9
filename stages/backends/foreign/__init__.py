"""What the backends over other runtimes share: levels in and out of a session that computes in reals."""
