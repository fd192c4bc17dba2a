"""Callers who speak Anthropic, over sources that speak OpenAI."""
