"""What the trainer does, through ports; no drivers."""
