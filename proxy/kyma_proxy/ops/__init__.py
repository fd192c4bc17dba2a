"""Starts, stops and administers the program."""
