"""The configuration as the program uses it: an immutable snapshot, and the units in which it is written."""
