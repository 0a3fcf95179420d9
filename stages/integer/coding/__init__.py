"""Programs in few bytes: which weights are 0, the levels of the others, entropy-coded; numpy alone."""
