"""Hostile requests and answers, and the processes that send them."""
