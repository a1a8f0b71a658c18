"""What the monitor does, told in terms of ports."""
