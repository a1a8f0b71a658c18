"""What the catalog knows: entities, values and rules. Standard library and the shared errors only."""
