"""ATen calls in the graph's vocabulary: one small function an operator."""
