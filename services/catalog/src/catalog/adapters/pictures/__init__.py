"""Pictures of files, made in a process of their own: see decision 0015."""
