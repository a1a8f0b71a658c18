"""Translation of events and requests into commands."""
