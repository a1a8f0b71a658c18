"""One technology per file: MongoDB, the landing places, the lake, the catalog's HTTP API."""
