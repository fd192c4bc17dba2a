"""What the two dialects say: errors, events of a stream, usage. Pure: bytes in, records out, and back."""
