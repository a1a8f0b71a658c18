"""Checks that a dataset demands of every version: a document, and what it says of one."""

from millrace.checks.document import Checks, parse_checks
from millrace.checks.verdict import Failure

__all__ = ["Checks", "Failure", "parse_checks"]
