"""API tokens: made once, shown once, kept as a keyed hash, never stronger than who made them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from catalog.application import views
from catalog.application.ports import Documents, Unit
from catalog.domain.tokens import Token
from catalog.errors import TokenNotFound
from millrace.auth.decision import EVERY_PROJECT, ROLES, Principal
from millrace.auth.tokens import Token as Secret
from millrace.auth.tokens import mint, parse, verify
from millrace.clock import Clock
from millrace.errors import Conflict, Forbidden, Invalid, Unauthenticated
from millrace.patterns import NAME_PATTERN
from millrace.settings import explain, read_secret

Kind = Literal["person", "service", "token"]
MAX_TOKENS = 1_000
SESSION = timedelta(hours=12)


@dataclass(frozen=True)
class IssueToken:
    """What a new token should allow."""

    principal: str
    kind: Kind
    project: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...] | None = None
    description: str = ""
    parent: str | None = None
    lifetime: timedelta | None = None


def principal_of(token: Token) -> Principal:
    """Return the principal that a token speaks for."""
    kind: Any = token.kind
    return Principal(
        id=token.principal,
        kind=kind,
        project=token.project,
        roles=frozenset(token.roles),
        scopes=None if token.scopes is None else frozenset(token.scopes),
        token_id=token.id,
    )


async def issue_token(
    cmd: IssueToken, maker: Principal, *, environment: str, pepper: bytes, uow: Unit, clock: Clock
) -> dict[str, Any]:
    """Make a token and return it, with its secret for the only time.

    Raises:
        Forbidden: it would allow what its maker may not do.
        Invalid: an unknown role.
    """
    unknown = set(cmd.roles) - set(ROLES)
    if unknown or not cmd.roles:
        raise Invalid(f"unknown roles {sorted(unknown)}" if unknown else "a token needs a role", roles=sorted(ROLES))
    secret = mint(environment)
    now = clock.now()
    token = Token(
        id=secret.id,
        project=cmd.project,
        hash=secret.hash(pepper),
        principal=cmd.principal,
        kind=cmd.kind,
        roles=tuple(sorted(set(cmd.roles))),
        scopes=cmd.scopes,
        description=cmd.description,
        parent=cmd.parent,
        created_by=maker.id,
        created_at=now,
        expires_at=now + cmd.lifetime if cmd.lifetime else None,
    )
    _no_escalation(principal_of(token), maker)
    await uow.tokens.add(token)
    detail = {"principal": token.principal, "roles": list(token.roles)}
    uow.audit(maker.id, "token.issue", f"token:{token.id}", token.project, detail)
    return {**views.token(token), "token": secret.text}


def _no_escalation(made: Principal, maker: Principal) -> None:
    if maker.project not in (EVERY_PROJECT, made.project):
        raise Forbidden(f"{maker.id} makes tokens for project {maker.project} only")
    more = made.actions - maker.actions
    if more:
        raise Forbidden(f"a token is never stronger than its maker; {maker.id} may not {min(more)}")


async def revoke_token(token_id: str, by: Principal, *, uow: Unit, clock: Clock) -> None:
    """Revoke a token and the sessions opened with it.

    Services that asked about it recently believe in it for at most 30 s more.

    Raises:
        TokenNotFound: there is none of that id that `by` can see.
    """
    token = await uow.tokens.get(token_id)
    if token is None or not by.sees(token.project):
        raise TokenNotFound(f"no token {token_id[:32]!r}")
    sessions = await uow.tokens.find({"parent": token_id}, limit=MAX_TOKENS)
    for live in (token, *sessions):
        if live.revoked_at is None:
            await uow.tokens.save(replace(live, revoked_at=clock.now()))
            uow.audit(by.id, "token.revoke", f"token:{live.id}", live.project, {})


async def open_session(me: Principal, *, environment: str, pepper: bytes, uow: Unit, clock: Clock) -> dict[str, Any]:
    """Make a token for the same principal that ends after twelve hours, and no later than the caller's own.

    Raises:
        Conflict: the caller's own token is a session: sessions of sessions would outlive what they came from.
    """
    mine = None if me.token_id is None else await uow.tokens.get(me.token_id)
    if mine is not None and mine.parent is not None:
        raise Conflict("a session opens no other session", hint="sign in with an API token")
    left = None if mine is None or mine.expires_at is None else mine.expires_at - clock.now()
    cmd = IssueToken(
        principal=me.id,
        kind=me.kind,
        project=me.project,
        roles=tuple(me.roles),
        scopes=None if me.scopes is None else tuple(sorted(me.scopes)),
        description="console session",
        parent=me.token_id,
        lifetime=SESSION if left is None else min(SESSION, left),
    )
    return await issue_token(cmd, me, environment=environment, pepper=pepper, uow=uow, clock=clock)


async def close_session(me: Principal, *, uow: Unit, clock: Clock) -> None:
    """Revoke the session that the caller came with.

    Raises:
        Conflict: it came with an API token, which signing out must not destroy.
    """
    mine = None if me.token_id is None else await uow.tokens.get(me.token_id)
    if mine is None or mine.parent is None:
        raise Conflict("this is no session", hint="an API token is revoked by its id")
    await revoke_token(mine.id, me, uow=uow, clock=clock)


async def note_uses(token_ids: set[str], *, uow: Unit, clock: Clock) -> None:
    """Write down that these tokens were used."""
    for token_id in sorted(token_ids):
        token = await uow.tokens.get(token_id)
        if token is not None and token.revoked_at is None:
            await uow.tokens.save(replace(token, last_used_at=clock.now()))


async def list_tokens(by: Principal, project: str, *, documents: Documents) -> list[dict[str, Any]]:
    """Return the tokens of a project, and those of every project to whom may act everywhere."""
    projects = (project, EVERY_PROJECT) if by.project == EVERY_PROJECT else (project,)
    return [views.token(token) for token in await documents.tokens.find({"project": projects}, limit=MAX_TOKENS)]


async def find_principal(text: str, *, documents: Documents, pepper: bytes, now: datetime) -> Principal:
    """Return the principal of a token's text.

    Raises:
        Unauthenticated: malformed, unknown, wrong, expired or revoked.
    """
    secret = parse(text)
    token = await documents.tokens.get(secret.id)
    if token is None or not verify(secret, token.hash, pepper) or not token.live(now):
        raise Unauthenticated("the token is unknown, expired or revoked")
    return principal_of(token)


class BootstrapToken(BaseModel):
    """A token that the installation brings: by its keyed hash, or by the secret file that holds it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")] | None = None
    hash: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None
    token_file: Path | None = None
    principal: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    kind: Kind = "service"
    roles: Annotated[tuple[str, ...], Field(min_length=1)]
    project: Annotated[str, StringConstraints(pattern=rf"(^\*$)|({NAME_PATTERN})")] = EVERY_PROJECT

    def identified(self, pepper: bytes, folder: Path) -> tuple[str, str]:
        """Return (id, keyed hash)."""
        if self.token_file is not None:
            try:
                secret: Secret = parse(read_secret(folder / self.token_file).get_secret_value())
            except Unauthenticated as error:
                raise Invalid(f"{self.token_file} holds no API token") from error
            return secret.id, secret.hash(pepper)
        if self.id is None or self.hash is None:
            raise Invalid(f"the bootstrap token of {self.principal} has neither token_file nor id and hash")
        return self.id, self.hash


def read_bootstrap(path: Path) -> list[BootstrapToken]:
    """Return the tokens of a bootstrap file (a JSON list).

    Raises:
        Invalid: the file is unreadable or malformed.
    """
    try:
        return TypeAdapter(list[BootstrapToken]).validate_python(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise Invalid(f"bootstrap file {path}: {explain(error)}") from None
    except (OSError, ValueError) as error:
        raise Invalid(f"cannot read bootstrap file {path}: {type(error).__name__}") from None


async def install_tokens(wanted: list[BootstrapToken], folder: Path, *, pepper: bytes, uow: Unit, clock: Clock) -> int:
    """Store the installation's tokens where they are missing or changed; a revoked one stays revoked."""
    changed = 0
    for item in wanted:
        token_id, digest = item.identified(pepper, folder)
        roles = tuple(sorted(set(item.roles)))
        known = await uow.tokens.get(token_id)
        if known is None:
            token = Token(
                id=token_id,
                project=item.project,
                hash=digest,
                principal=item.principal,
                kind=item.kind,
                roles=roles,
                description="brought by the installation",
                created_by="installation",
                created_at=clock.now(),
            )
            await uow.tokens.add(token)
        else:
            token = replace(known, hash=digest, principal=item.principal, roles=roles, project=item.project)
            if token == known:
                continue
            await uow.tokens.save(token)
        changed += 1
        detail = {"principal": item.principal, "roles": list(roles)}
        uow.audit("installation", "token.install", f"token:{token_id}", item.project, detail)
    return changed
