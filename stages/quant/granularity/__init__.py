"""Which values share one scale."""
