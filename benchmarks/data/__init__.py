"""The data plane beside its peers: see `__main__`."""
