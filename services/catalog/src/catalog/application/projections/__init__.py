"""What the catalog learns from events: runs, deployments, operations and policy requests move on."""
