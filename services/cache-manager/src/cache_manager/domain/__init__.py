"""Sites, cache entries, leases and charges as values and rules; standard library only."""
