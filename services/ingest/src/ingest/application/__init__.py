"""What ingest does, without knowing which database, bus, lake or catalog it does it with."""
