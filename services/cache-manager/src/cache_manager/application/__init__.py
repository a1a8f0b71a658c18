"""What the cache manager does, without knowing which database, bus or file system it does it with."""
