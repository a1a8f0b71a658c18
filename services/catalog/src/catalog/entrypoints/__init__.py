"""HTTP and bus: translation only."""
