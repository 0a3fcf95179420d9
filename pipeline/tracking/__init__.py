"""Where runs are recorded: MLflow, or nowhere."""
