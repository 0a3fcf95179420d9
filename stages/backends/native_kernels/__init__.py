"""The native backend's parts: the C++ engine in ``source``, its compilation, and the planner of its steps."""
