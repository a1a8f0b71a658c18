"""The egress guard: the one way in which a service follows a URL that somebody else wrote.

A host must be on the installation's list. Its name is resolved once, every address is judged, and the connection goes
to the address that was judged, under the name's own certificate. Redirects are not followed. Size and time are capped,
and nothing of an answer is ever quoted: an error says what was wrong, not what was there.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

import httpx

from millrace.errors import DeadlineExceeded, Forbidden, Invalid, MillraceError, NotFound, TooLarge, Unavailable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

MAX_URL = 2_048
PORTS = {"http": 80, "https": 443}
_NETS = ("100.64.0.0/10", "192.0.0.0/24", "198.18.0.0/15", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/23")
NEVER_PUBLIC = tuple(ipaddress.ip_network(net) for net in _NETS)
"""Ranges that `ipaddress` may call global and that lead inside: shared, benchmark, translated and tunnelled ones."""

METADATA = frozenset(
    map(ipaddress.ip_address, ("169.254.169.254", "169.254.170.2", "fd00:ec2::254", "100.100.100.200"))
)
"""Where clouds tell a machine its secrets: never reached, whatever is allowed."""


class EgressRefused(Forbidden):
    """The URL leads where this installation does not go."""

    code = "egress-refused"
    title = "Not a place to go"


class EgressFailed(Unavailable):
    """The other side did not answer as it should; trying again may help."""

    code = "egress-failed"


@dataclass(frozen=True)
class AllowedHost:
    """One entry of the list. `*.example.org` means every name below it; `plain` allows http, `private` inner addresses.

    Without a port only the scheme's own is allowed.
    """

    host: str
    port: int | None = None
    plain: bool = False
    private: bool = False

    def fits(self, host: str, port: int, scheme: str) -> bool:
        """Return whether this entry is about a host and port."""
        wanted = self.host.casefold().rstrip(".")
        named = host.endswith(wanted[1:]) if wanted.startswith("*.") else host == wanted
        return named and port == (self.port or PORTS[scheme]) and (scheme == "https" or self.plain)


@dataclass(frozen=True)
class Caps:
    """What one request may cost: bytes of the answer, seconds in all, seconds to connect."""

    size: int
    seconds: float = 60.0
    connect_seconds: float = 10.0


@dataclass(frozen=True)
class Target:
    """A judged URL: where the connection goes, and under which name."""

    url: httpx.URL
    host: str
    port: int
    address: str

    @property
    def pinned(self) -> httpx.URL:
        """Return the URL with the address in the name's place."""
        return self.url.copy_with(host=self.address, port=self.port)


@dataclass(frozen=True)
class Answer:
    """What is told of an answer: its size in bytes where the server says it, its tag, and its bytes as a stream."""

    size: int | None
    etag: str | None
    chunks: AsyncIterator[bytes]


class EgressGuard:
    """Follows URLs for one installation. Needs `close()` at the end."""

    def __init__(
        self,
        allowed: Sequence[AllowedHost],
        *,
        resolve: Resolve | None = None,
        verify: ssl.SSLContext | Literal[True] = True,
    ) -> None:
        self._allowed, self._resolve = tuple(allowed), resolve or resolve_host
        self._client = httpx.AsyncClient(
            follow_redirects=False,
            trust_env=False,
            verify=verify,
            headers={"accept-encoding": "identity"},
            limits=httpx.Limits(max_keepalive_connections=0),  # two names on one address never share a connection
        )

    async def judge(self, url: str) -> Target:
        """Return where a URL leads, if this installation goes there.

        Raises:
            EgressRefused: not https, not on the list, or an inner address.
            EgressFailed: the name cannot be resolved.
        """
        parsed, host, port = _parsed(url)
        entries = [entry for entry in self._allowed if entry.fits(host, port, parsed.scheme)]
        if not entries:
            raise EgressRefused(
                f"{parsed.scheme}://{host}:{port} is not on this installation's list of hosts",
                hint="an operator may add it",
            )
        private = any(entry.private for entry in entries)
        found = [_address(text) for text in await self._addresses(host, port)]
        for address in found:
            if address in METADATA or (not private and not public(address)):
                raise EgressRefused(f"{host} leads to an inner address")
        return Target(parsed, host, port, str(found[0]))

    async def _addresses(self, host: str, port: int) -> Sequence[str]:
        try:
            found = await self._resolve(host, port)
        except OSError:
            found = ()
        if not found:
            raise EgressFailed(f"{host} cannot be resolved")
        return found

    @asynccontextmanager
    async def get(self, url: str, caps: Caps) -> AsyncIterator[Answer]:
        """Fetch a URL as a stream.

        Raises:
            EgressRefused: the URL, or a redirect.
            NotFound, Forbidden, EgressFailed, DeadlineExceeded: what the other side said, or did not.
            TooLarge: more bytes than `caps` allow.
        """
        try:
            async with asyncio.timeout(caps.seconds):
                target = await self.judge(url)
                request = self._request(target, caps)
                response = await self._client.send(request, stream=True)
                try:
                    _check(response, target, caps)
                    yield Answer(_size(response), response.headers.get("etag"), _capped(response, target, caps))
                finally:
                    await response.aclose()
        except TimeoutError:
            raise DeadlineExceeded(f"no whole answer within {caps.seconds:g} s") from None
        except httpx.TimeoutException:
            raise DeadlineExceeded("the host did not answer in time") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, ssl.SSLError) as error:
            raise EgressFailed(f"the host cannot be asked ({type(error).__name__})") from None

    def _request(self, target: Target, caps: Caps) -> httpx.Request:
        default = target.port == PORTS[target.url.scheme]
        name = f"[{target.host}]" if ":" in target.host else target.host
        return self._client.build_request(
            "GET",
            target.pinned,
            headers={"host": name if default else f"{name}:{target.port}"},
            extensions={"sni_hostname": target.host},
            timeout=httpx.Timeout(caps.seconds, connect=caps.connect_seconds),
        )

    async def close(self) -> None:
        """Let go of the connections."""
        await self._client.aclose()


def public(address: Address) -> bool:
    """Return whether an address lies in the open internet, and leads nowhere else by translation."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return public(address.ipv4_mapped)
    inside = any(address in net for net in NEVER_PUBLIC if net.version == address.version)
    return address.is_global and not inside and not address.is_multicast and not address.is_reserved


async def resolve_host(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a name."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(item[4][0]) for item in found]


def _parsed(url: str) -> tuple[httpx.URL, str, int]:
    if len(url) > MAX_URL or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise EgressRefused("not a URL that is followed")
    try:
        parsed = httpx.URL(url)
        port = parsed.port
    except (httpx.InvalidURL, ValueError, TypeError):
        raise EgressRefused("not a URL that is followed") from None
    host = parsed.host.casefold().rstrip(".")
    if parsed.scheme not in PORTS or not host or parsed.userinfo:
        raise EgressRefused("only https:// URLs are followed, and http:// ones where the host's entry says so")
    return parsed.copy_with(fragment=None), host, port or PORTS[parsed.scheme]


def _address(text: str) -> Address:
    """Return an address; an IPv4 one in IPv6 clothes is judged, and reached, as what it is."""
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        raise EgressRefused("the host has no address that is one") from None
    return getattr(found, "ipv4_mapped", None) or found


def _check(response: httpx.Response, target: Target, caps: Caps) -> None:
    status = response.status_code
    if 300 <= status < 400:
        raise EgressRefused(f"{target.host} answers with a redirect, which is not followed")
    if status != 200:
        raise _failure(status, target.host)
    if response.headers.get("content-encoding", "identity").casefold() != "identity":
        raise Invalid(f"{target.host} sends a compressed answer, which was not asked for")
    if (size := _size(response)) is not None and size > caps.size:
        raise TooLarge(f"{target.host} sends more than {caps.size} bytes")


def _failure(status: int, host: str) -> MillraceError:
    if status in {404, 410}:
        return NotFound(f"{host} has no such thing ({status})")
    if status in {401, 403}:
        return Forbidden(f"{host} does not let us ({status})")
    if status == 429 or status >= 500:
        return EgressFailed(f"{host} cannot answer now ({status})")
    return Invalid(f"{host} answers {status}")


def _size(response: httpx.Response) -> int | None:
    said = response.headers.get("content-length", "")
    return int(said) if said.isascii() and said.isdecimal() and len(said) < 19 else None


async def _capped(response: httpx.Response, target: Target, caps: Caps) -> AsyncIterator[bytes]:
    seen = 0
    async for chunk in response.aiter_raw():
        seen += len(chunk)
        if seen > caps.size:
            raise TooLarge(f"{target.host} sends more than {caps.size} bytes")
        yield chunk
