"""The reference of the configuration: each key with its meaning, an example, and what a reload does with it."""
