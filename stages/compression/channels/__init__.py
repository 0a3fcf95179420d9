"""Channel pruning: which channels go together, which of them go, and the smaller dense graph without them."""
