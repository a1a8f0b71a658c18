"""Translation from the bus and HTTP to handlers."""
