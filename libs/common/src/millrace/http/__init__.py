"""HTTP for every service: one app factory, one guard, one error format."""

from millrace.http.app import ANONYMOUS_PATHS, MAX_BODY_BYTES, create_app, problem
from millrace.http.guard import ProjectName, authenticated, requires, requires_platform
from millrace.http.openapi import PROBLEM
from millrace.http.routes import RouteGuard, enumerate_routes

__all__ = [
    "ANONYMOUS_PATHS",
    "MAX_BODY_BYTES",
    "PROBLEM",
    "ProjectName",
    "RouteGuard",
    "authenticated",
    "create_app",
    "enumerate_routes",
    "problem",
    "requires",
    "requires_platform",
]
