"""Callers who speak OpenAI, over sources that speak Anthropic."""
