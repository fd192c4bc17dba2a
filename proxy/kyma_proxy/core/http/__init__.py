"""What crosses the wire as HTTP: requests, heads, bodies, endpoints; decided without I/O."""
