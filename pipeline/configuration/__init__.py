"""The checked configuration: the run-level schema, dotted targets, coercion of values, and the builder."""
