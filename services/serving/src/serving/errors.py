"""Errors of serving, below the shared tree of `millrace.errors`."""

from __future__ import annotations

from millrace.errors import Corrupt, Invalid, NotFound, Unavailable


class EndpointNotFound(NotFound):
    """No deployment of that name answers here."""

    code = "endpoint-not-found"


class BadPackage(Invalid):
    """The model package breaks a rule and can never be served."""

    code = "bad-package"


class DamagedPackage(Corrupt):
    """The package's bytes do not have the digest that names it."""

    code = "damaged-package"


class GoldenMismatch(Invalid):
    """The loaded model does not give the answer that its package promises."""

    code = "golden-mismatch"


class LoadFailed(Invalid):
    """The model server refused the model."""

    code = "load-failed"


class ModelServerAway(Unavailable):
    """The model server does not answer."""

    code = "model-server-away"
