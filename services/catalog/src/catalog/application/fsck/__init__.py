"""The invariants that the catalog can check in its own documents and in the lake."""
