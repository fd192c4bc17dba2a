"""From a YAML file to an immutable snapshot, with every problem named at once."""
