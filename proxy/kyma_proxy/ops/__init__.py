"""Starting, stopping and commanding the program."""
