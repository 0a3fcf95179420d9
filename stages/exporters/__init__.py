"""Writers of foreign formats: one file a format."""
