"""The object store as a port: what the lake must be able to do, and nothing that only one server can.

This package imports no driver. The adapters are `millrace.objects.s3`, `.azure` and `.gcs`, chosen by
`millrace.objects.lake.open_lake`; tests of pure logic use `millrace.testing.objects.InMemoryObjectStore`. All pass the
same contract suite.
"""

from millrace.objects.port import Capabilities, Lake, Method, ObjectInfo, ObjectStore, Presigned
from millrace.objects.probe import probe
from millrace.objects.ranges import Span, coalesce, slices

__all__ = [
    "Capabilities",
    "Lake",
    "Method",
    "ObjectInfo",
    "ObjectStore",
    "Presigned",
    "Span",
    "coalesce",
    "probe",
    "slices",
]
