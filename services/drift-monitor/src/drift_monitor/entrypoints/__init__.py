"""Ways in: the bus, HTTP, the timers. Translation only."""
