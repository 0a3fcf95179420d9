"""Many runs side by side: reads MLflow, does the statistics, writes one self-contained page and a CSV."""
