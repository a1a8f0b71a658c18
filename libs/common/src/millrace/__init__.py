"""The shared kernel of Millrace: contracts and plumbing that every service stands on. It knows no service."""
