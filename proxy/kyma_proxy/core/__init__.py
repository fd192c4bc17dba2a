"""The rules: pure functions and records. No I/O, no clock, no chance; time and randomness are arguments."""
