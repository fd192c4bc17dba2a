"""Dialects of image providers."""
