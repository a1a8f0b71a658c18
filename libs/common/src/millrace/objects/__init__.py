"""The object store as a port: what the lake must be able to do, and nothing that only one server can.

This package imports no driver. The adapter is `millrace.objects.s3.S3ObjectStore`; tests of pure logic use
`millrace.testing.objects.InMemoryObjectStore`, which passes the same contract suite.
"""

from millrace.objects.port import Capabilities, Method, ObjectInfo, ObjectStore
from millrace.objects.probe import probe
from millrace.objects.ranges import Span, coalesce, slices

__all__ = ["Capabilities", "Method", "ObjectInfo", "ObjectStore", "Span", "coalesce", "probe", "slices"]
