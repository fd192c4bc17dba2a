"""Loading of the configuration: YAML, strict structs, all problems at once, an immutable snapshot."""
