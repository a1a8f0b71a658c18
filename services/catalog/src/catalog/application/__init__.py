"""Commands, handlers, queries and the ports they need. No driver is imported here."""
