"""Serves the pages for people: the catalogue for anybody, and an account's keys, use and credits for its holder."""
