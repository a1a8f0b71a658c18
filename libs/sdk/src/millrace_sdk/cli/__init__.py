"""The command line `millrace`: noun, then verb. Data goes to standard output, everything else to standard error.

Exit codes: 0 fine, 1 failed, 2 wrong usage, 3 not allowed, 4 not found, 5 conflict, 6 unavailable, 130 interrupted.
"""

from millrace_sdk.cli.app import main

__all__ = ["main"]
