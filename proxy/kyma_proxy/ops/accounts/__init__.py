"""The commands about accounts, keys and credits."""
