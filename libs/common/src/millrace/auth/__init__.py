"""Tokens, roles, and the one decision of who may do what."""

from millrace.auth.authenticator import Authenticator, IntrospectingAuthenticator, introspection, principal_from
from millrace.auth.decision import ACTIONS, EVERY_PROJECT, ROLES, Principal, authorise
from millrace.auth.tokens import Token, mint, parse, verify

__all__ = [
    "ACTIONS",
    "EVERY_PROJECT",
    "ROLES",
    "Authenticator",
    "IntrospectingAuthenticator",
    "Principal",
    "Token",
    "authorise",
    "introspection",
    "mint",
    "parse",
    "principal_from",
    "verify",
]
