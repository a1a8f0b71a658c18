from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.egress import AllowedHost, Caps, EgressFailed, EgressGuard, EgressRefused, public
from millrace.errors import DeadlineExceeded, Forbidden, Invalid, MillraceError, NotFound, TooLarge

CAPS = Caps(size=1_000, seconds=5.0)
PUBLIC = "93.184.216.34"


def names(table: dict[str, list[str]]) -> Any:
    async def resolve(host: str, port: int) -> Sequence[str]:
        if host not in table:
            raise OSError(host)
        return table[host]

    return resolve


@dataclass
class Host:
    answers: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    port: int = 0


@pytest.fixture
async def server() -> AsyncIterator[Any]:
    """A host that answers `GET /<name>` with what it was told, and keeps the requests."""

    host = Host()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        text = (await reader.readuntil(b"\r\n\r\n")).decode()
        host.requests.append(text)
        answer = host.answers[text.split(" ")[1]]
        writer.write(answer)
        await writer.drain()
        if answer.endswith(b"hang"):
            await reader.read()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    host.port = listening.sockets[0].getsockname()[1]
    yield host
    listening.close()
    await listening.wait_closed()


def said(status: str, body: bytes = b"", *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


async def fetched(guard: EgressGuard, url: str, caps: Caps = CAPS) -> bytes:
    try:
        async with guard.get(url, caps) as answer:
            return b"".join([chunk async for chunk in answer.chunks])
    finally:
        await guard.close()


def local(server: Any, **more: Any) -> EgressGuard:
    entry = AllowedHost("data.test", port=server.port, plain=True, private=True)
    return EgressGuard([entry], resolve=names({"data.test": ["127.0.0.1"]}), **more)


async def test_an_allowed_host_is_reached_under_its_name(server: Any) -> None:
    server.answers["/a?b=1"] = said("200 OK", b"hello", 'etag: "x"')
    assert await fetched(local(server), f"http://data.test:{server.port}/a?b=1#part") == b"hello"
    assert f"host: data.test:{server.port}" in server.requests[0].casefold()
    assert "accept-encoding: identity" in server.requests[0].casefold()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (said("302 Found", b"", "location: http://127.0.0.1/secret"), EgressRefused),
        (said("404 Not Found", b"secret"), NotFound),
        (said("403 Forbidden", b"secret"), Forbidden),
        (said("500 Oops", b"secret"), EgressFailed),
        (said("418 Teapot", b"secret"), Invalid),
        (said("200 OK", b"x" * 2_000), TooLarge),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + b"x" * 2_000, TooLarge),
        (said("200 OK", b"secret", "content-encoding: gzip"), Invalid),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\nshort", EgressFailed),
        (b"secret nonsense\r\n\r\n", EgressFailed),
    ],
)
async def test_answers_become_errors_and_are_never_quoted(
    server: Any, answer: bytes, kind: type[MillraceError]
) -> None:
    server.answers["/"] = answer
    with pytest.raises(kind) as caught:
        await fetched(local(server), f"http://data.test:{server.port}/")
    assert "secret" not in caught.value.message
    assert len(server.requests) == 1


async def test_a_host_that_says_nothing_more_is_given_up(server: Any) -> None:
    server.answers["/"] = b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\nhang"
    with pytest.raises(DeadlineExceeded):
        await fetched(local(server), f"http://data.test:{server.port}/", Caps(size=1_000, seconds=0.3))


async def test_a_name_is_resolved_once_and_the_judged_address_is_used(server: Any) -> None:
    """A name that turns inward after it was judged finds nobody who asks again."""
    server.answers["/"] = said("200 OK", b"right")
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

    entry = AllowedHost("data.test", port=server.port, plain=True, private=True)
    assert await fetched(EgressGuard([entry], resolve=rebinding), f"http://data.test:{server.port}/") == b"right"
    assert asked == ["data.test"]


async def test_the_certificate_is_asked_for_under_the_name() -> None:
    guard = EgressGuard([AllowedHost("data.test")], resolve=names({"data.test": [PUBLIC]}))
    request = guard._request(await guard.judge("https://data.test/x"), CAPS)
    await guard.close()
    assert (request.url.host, request.headers["host"]) == (PUBLIC, "data.test")
    assert request.extensions["sni_hostname"] == "data.test"


INNER = [
    "127.0.0.1",
    "127.8.8.8",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "198.18.0.1",
    "192.0.0.8",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "2001::1",
]


@pytest.mark.parametrize("address", INNER)
async def test_inner_addresses_are_refused(address: str) -> None:
    for answer in ([address], [PUBLIC, address]):
        guard = EgressGuard([AllowedHost("data.test")], resolve=names({"data.test": answer}))
        with pytest.raises(EgressRefused):
            await guard.judge("https://data.test/x")
        await guard.close()


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "fd00:ec2::254", "100.100.100.200", "169.254.170.2", "::ffff:169.254.169.254"]
)
async def test_the_clouds_secrets_are_never_reached(address: str) -> None:
    guard = EgressGuard([AllowedHost("data.test", private=True)], resolve=names({"data.test": [address]}))
    with pytest.raises(EgressRefused):
        await guard.judge("https://data.test/x")
    await guard.close()


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://data.test/x", True),
        ("https://DATA.test./x", True),
        ("https://a.below.test/x", True),
        ("https://data.test:443/x", True),
        ("https://data.test:8443/x", False),
        ("http://data.test/x", False),
        ("https://below.test/x", False),
        ("https://evilbelow.test/x", False),
        ("https://data.test.evil.test/x", False),
        ("https://user:word@data.test/x", False),
        ("https://evil.test\\@data.test/x", False),
        ("https://data.test@evil.test/x", False),
        ("ftp://data.test/x", False),
        ("file:///etc/passwd", False),
        ("https:///x", False),
        ("//data.test/x", False),
        ("https://data.test/" + "x" * 3_000, False),
        ("https://d\u0430ta.test/x", False),
        ("https://data.test:x/", False),
        ("https://data .test/", False),
        ("https://127.0.0.1/", False),
        ("https://2130706433/", False),
        ("https://0x7f.1/", False),
        ("", False),
    ],
)
async def test_only_listed_hosts_are_judged_good(url: str, good: bool) -> None:
    table = {name: [PUBLIC] for name in ("data.test", "a.below.test", "evil.test", "below.test")}
    guard = EgressGuard([AllowedHost("data.test"), AllowedHost("*.below.test")], resolve=names(table))
    if good:
        target = await guard.judge(url)
        assert (target.address, target.pinned.host) == (PUBLIC, PUBLIC)
    else:
        with pytest.raises(EgressRefused):
            await guard.judge(url)
    await guard.close()


async def test_a_name_without_an_address_may_get_one_later() -> None:
    guard = EgressGuard([AllowedHost("gone.test")], resolve=names({}))
    with pytest.raises(EgressFailed):
        await guard.judge("https://gone.test/")
    await guard.close()


@given(st.integers(0, 2**32 - 1))
def test_mapped_addresses_are_judged_as_what_they_map(value: int) -> None:
    plain = ipaddress.IPv4Address(value)
    assert public(plain) == public(ipaddress.IPv6Address(f"::ffff:{plain}"))


@settings(max_examples=50)  # each guard loads the certificates that it trusts
@given(st.text(max_size=80))
async def test_no_text_is_followed_by_accident(text: str) -> None:
    guard = EgressGuard([AllowedHost("data.test")], resolve=names({"data.test": [PUBLIC]}))
    try:
        target = await guard.judge(f"https://{text}")
    except EgressRefused:
        return
    finally:
        await guard.close()
    assert (target.host, target.address) == ("data.test", PUBLIC)
