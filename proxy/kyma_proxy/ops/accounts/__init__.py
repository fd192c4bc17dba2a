"""The commands that create and change accounts, keys and credits."""
