"""The dialects: what their callers send and their providers answer, and the translations between them."""
