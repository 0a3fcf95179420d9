"""The framework: composes a configuration, checks it, and runs stages over stored artifacts."""
