"""Shows the delay of each event over a minute, beside what the gateway did in that moment."""
