"""How long these tests wait, where the machine under them is a slow one (`make test-nfs`: a guest)."""

from __future__ import annotations

import os

PATIENCE = float(os.environ.get("MILLRACE_TEST_PATIENCE", "1"))
"""How many times longer anything may take."""

TAKEOVER = 0.6 * PATIENCE
"""Seconds of silence after which a second manager goes on; short, for that is all that some tests wait for."""
