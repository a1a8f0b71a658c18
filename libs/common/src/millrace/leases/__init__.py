"""Leases with fencing tokens: who may act, decided by a counter that only rises, never by a wall clock."""

from millrace.leases.identity import HolderIdentity, ProcessIdentity
from millrace.leases.leadership import Leadership
from millrace.leases.ports import Lease, Leases
from millrace.leases.store import LeaseStore

__all__ = ["HolderIdentity", "Leadership", "Lease", "LeaseStore", "Leases", "ProcessIdentity"]
