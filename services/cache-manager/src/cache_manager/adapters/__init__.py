"""One technology per file: MongoDB, the file system of a site, the lake, the catalog's HTTP API, the bus."""
