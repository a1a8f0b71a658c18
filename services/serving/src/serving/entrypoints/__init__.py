"""Translation between the outside (bus, HTTP) and the application."""
