"""Sweeps: their jobs, what resumes them, and the replay of a recorded run."""
