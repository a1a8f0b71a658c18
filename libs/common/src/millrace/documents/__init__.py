"""Documents on MongoDB: the client, one transaction as a unit of work, translated errors, indexes, migrations.

`millrace.documents.ports` holds what application code may import; `millrace.documents.migrations` is imported by
its own name, because it needs leases, which need this package.
"""

from millrace.documents.client import connect
from millrace.documents.failures import translate, translated
from millrace.documents.indexes import ensure_indexes, ensure_kernel_indexes
from millrace.documents.ports import InboxKey, Transact, UnitOfWork
from millrace.documents.transactor import Transactor
from millrace.documents.unit_of_work import MongoUnitOfWork

__all__ = [
    "InboxKey",
    "MongoUnitOfWork",
    "Transact",
    "Transactor",
    "UnitOfWork",
    "connect",
    "ensure_indexes",
    "ensure_kernel_indexes",
    "translate",
    "translated",
]
