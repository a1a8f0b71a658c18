"""What serving does, in terms of ports."""
