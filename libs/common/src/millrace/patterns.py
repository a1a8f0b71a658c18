"""What names look like, for those who match them without building models (`events.names` has the types)."""

from __future__ import annotations

NAME_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}$"
"""A project, dataset, model, site, policy, deployment …"""
