"""The content-addressed store: artifacts by what determines them, local and remote."""
