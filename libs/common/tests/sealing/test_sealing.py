"""Names, sizes, segments and the store over memory: what is sealed comes back, and nothing else does."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.clock import SystemClock
from millrace.datasets.keys import LAKE_KINDS, LakeKind, chunk_key, find_lake_key, lake_key, manifest_key, sealed_key
from millrace.datasets.pack import footer, pack_id
from millrace.errors import Corrupt, Forbidden, Invalid, NotFound, Unavailable
from millrace.objects.port import ObjectInfo
from millrace.sealing import KeyMemory, Known, ProjectKey, SealedStore
from millrace.sealing.segments import SEGMENT, STORED, TAG, plain_size, sealed_size
from millrace.testing import InMemoryObjectStore

KEY = ProjectKey("wards", bytes(range(32)))
CHANCE = random.Random(18)
DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
SIZES = [0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT, 3 * SEGMENT + 7]


class Ring:
    """One project with a key; the others have none."""

    async def key_of(self, project: str) -> ProjectKey | None:
        return KEY if project == KEY.project else None


class Other:
    """Another key for each project."""

    async def key_of(self, project: str) -> ProjectKey | None:
        return ProjectKey(project, bytes(32))


@pytest.fixture
def memory() -> InMemoryObjectStore:
    return InMemoryObjectStore()


@pytest.fixture
def store(memory: InMemoryObjectStore) -> SealedStore:
    return SealedStore(memory, Ring())


def chunk(data: bytes, project: str = "wards") -> str:
    return chunk_key(project, blake3(data).hexdigest())


@given(st.integers(0, 1 << 34))
def test_sizes_follow_from_each_other(size: int) -> None:
    assert plain_size(sealed_size(size)) == size


def test_what_nothing_is_sealed_to_has_no_plain_size() -> None:
    possible = {sealed_size(size) for size in range(2 * SEGMENT + 50)}
    for stored in (*range(40), *range(STORED - 30, STORED + 40), 2 * STORED + 3):
        assert (plain_size(stored) is not None) == (stored in possible)


@given(st.sampled_from(LAKE_KINDS), DIGESTS)
def test_names_are_deterministic_and_invertible(kind: LakeKind, digest: str) -> None:
    name = KEY.seal_name(kind, digest)
    assert name == ProjectKey("wards", KEY.secret).seal_name(kind, digest)
    assert KEY.open_name(kind, name) == digest
    assert digest not in sealed_key("wards", kind, name)
    others = [other for other in LAKE_KINDS if other != kind]
    assert [KEY.open_name(other, name) for other in others] == [None] * 4
    assert ProjectKey("other", KEY.secret).open_name(kind, name) is None
    assert ProjectKey.new("wards").open_name(kind, name) is None
    assert find_lake_key(lake_key("wards", kind, digest)) == ("wards", kind, digest)


@pytest.mark.parametrize("name", ["", "ab", "0" * 96, "x" * 96, "0" * 94])
def test_foreign_names_open_to_nothing(name: str) -> None:
    assert KEY.open_name("packs", name) is None


def test_a_key_hides() -> None:
    assert KEY.secret.hex() not in repr(KEY)
    assert KEY.text not in repr(KEY)
    assert str(KEY.secret) not in repr(KEY)
    assert "secret" not in repr(KEY.segments("wards/chunks/a"))
    assert ProjectKey.from_text("wards", KEY.text) == KEY
    assert len(KEY.id) == 16
    for text in ("", "!", "AAAA", KEY.text + "A"):
        with pytest.raises(Invalid) as failed:
            ProjectKey.from_text("wards", text)
        assert KEY.text not in str(failed.value)


@pytest.mark.parametrize("size", SIZES)
async def test_what_is_sealed_is_read_and_measured(store: SealedStore, memory: InMemoryObjectStore, size: int) -> None:
    data = CHANCE.randbytes(size)
    key = chunk(data)
    assert await store.put(key, memoryview(data), create_only=True)
    assert not await store.put(key, data, create_only=True)
    assert await store.get(key) == data
    info = await store.head(key)
    assert info is not None
    assert (info.key, info.size) == (key, size)
    (stored,) = memory.objects.values()
    assert len(stored) == sealed_size(size)
    assert size < 16 or data[:16] not in stored
    assert [(info.key, info.size) async for info in store.list("wards/chunks/")] == [(key, size)]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 4 * SEGMENT), st.data())
async def test_ranges_are_slices(size: int, chosen: st.DataObject) -> None:
    store = SealedStore(InMemoryObjectStore(), Ring())
    data = random.Random(size).randbytes(size)
    key = chunk(data)
    await store.put(key, data)
    starts = chosen.draw(st.lists(st.integers(0, size), max_size=5))
    ranges = [(start, chosen.draw(st.integers(0, size - start))) for start in starts]
    found = await store.get_ranges(key, ranges)
    assert [bytes(part) for part in found] == [data[start : start + length] for start, length in ranges]
    with pytest.raises(Invalid):
        await store.get_range(key, size, 1)


async def test_ranges_share_requests_and_ask_for_the_size_once(store: SealedStore, memory: InMemoryObjectStore) -> None:
    data = CHANCE.randbytes(40 * SEGMENT)
    key = chunk(data)
    await store.put(key, data)
    memory.requests.update(head=0, range=0)
    wanted = [(index * 19_000, 900) for index in range(100)]
    for _ in range(3):
        assert list(await store.get_ranges(key, wanted)) == [data[at : at + size] for at, size in wanted]
    assert (memory.requests["head"], memory.requests["range"]) == (1, 3)


@pytest.mark.parametrize("size", SIZES)
async def test_a_changed_byte_is_noticed_wherever_it_lies(size: int) -> None:
    segments = KEY.segments("wards/chunks/x")
    data = CHANCE.randbytes(size)
    sealed = bytes(segments.seal(data))
    assert segments.open(sealed) == data
    places = range(len(sealed)) if len(sealed) < 200 else [0, len(sealed) - 1, *CHANCE.sample(range(len(sealed)), 20)]
    for place in places:
        damaged = bytearray(sealed)
        damaged[place] ^= 1 << CHANCE.randrange(8)
        with pytest.raises(Corrupt, match="wards/chunks/x"):
            segments.open(damaged)


def test_segments_are_neither_cut_off_nor_moved_nor_left_out() -> None:
    segments = KEY.segments("wards/chunks/x")
    data = CHANCE.randbytes(3 * SEGMENT)
    sealed = bytes(segments.seal(data))
    first, second, third = (sealed[place : place + STORED] for place in range(0, len(sealed), STORED))
    wrong = [first + second, first, second + first + third, first + third, sealed + third, b"", sealed[:-1]]
    for stored in (*wrong, sealed + bytes(TAG)):
        with pytest.raises(Corrupt):
            segments.open(stored)
    assert segments.open_part(second + third, STORED, len(sealed)) == data[SEGMENT:]
    for part, start, size in ((second, 0, len(sealed)), (second, STORED, 2 * STORED), (second, 5, len(sealed))):
        with pytest.raises(Corrupt):
            segments.open_part(part, start, size)


async def test_swapped_objects_do_not_open(store: SealedStore, memory: InMemoryObjectStore) -> None:
    one, other = b"one" * 50, b"two" * 50
    for data in (one, other):
        await store.put(chunk(data), data)
    first, second = memory.objects
    memory.objects[first], memory.objects[second] = memory.objects[second], memory.objects[first]
    for data in (one, other):
        with pytest.raises(Corrupt, match=chunk(data)):
            await store.get(chunk(data))
        with pytest.raises(Corrupt, match=chunk(data)):
            await store.get_range(chunk(data), 1, 2)


async def test_an_object_that_was_cut_short_and_then_mended_is_read_again(
    store: SealedStore, memory: InMemoryObjectStore
) -> None:
    data = CHANCE.randbytes(2 * SEGMENT)
    key = chunk(data)
    await store.put(key, data)
    ((name, whole),) = memory.objects.items()
    memory.objects[name] = whole[:STORED]
    for start in (0, SEGMENT):
        with pytest.raises((Corrupt, Invalid)):
            await store.get_range(key, start, 5)
    memory.objects[name] = whole
    assert await store.get_range(key, SEGMENT, 5) == data[SEGMENT : SEGMENT + 5]
    del memory.objects[name]
    with pytest.raises(NotFound, match=key):
        await store.get_range(key, 0, 5)
    with pytest.raises(NotFound, match=key):
        await store.get(key)


async def test_only_what_the_name_says_is_sealed(store: SealedStore, memory: InMemoryObjectStore) -> None:
    blobs = [b"a" * 100, b"b" * 50]
    end = footer([(blake3(blob).digest(), len(blob)) for blob in blobs])
    pack = b"".join((*blobs, end))
    name = pack_id(end)
    await store.put(lake_key("wards", "packs", name), pack)
    assert await store.get(lake_key("wards", "packs", name)) == pack
    for kind in LAKE_KINDS:
        with pytest.raises(Invalid):
            await store.put(lake_key("wards", kind, name), b"x" + pack[1:])
    wrong = (
        "wards/packs/x",
        "wards/packs",
        "wards/manifests/AB",
        "wards/commits/a/b",
        "wards/sealed/packs/a",
        "o/sealed/x",
    )
    for key in wrong:
        for call in (store.put(key, b""), store.get(key), store.head(key), store.delete(key)):
            with pytest.raises(Invalid):
                await call
    assert len(memory.objects) == 1


async def test_all_else_passes_as_it_is(store: SealedStore, memory: InMemoryObjectStore) -> None:
    kept = ("wards/models/a", "wards/runs/r/1/x", "wards/landing/z/f", "probe/a", "a", "other/packs/zz")
    for key in (*kept, chunk(b"clear", "other")):
        await store.put(key, b"clear")
        assert memory.objects[key] == await store.get(key) == b"clear"
        assert await store.get_range(key, 1, 2) == b"le"
        assert await store.head(key) == await memory.head(key)
    assert (await store.presign("GET", "a", expires=timedelta(seconds=1))).url.startswith("memory://GET/a?")


async def test_listings_show_what_callers_know(store: SealedStore, memory: InMemoryObjectStore) -> None:
    manifest, clear = manifest_key("wards", blake3(b"m").hexdigest()), "wards/landing/f"
    chunks = sorted(chunk(bytes([index]) * 9) for index in range(4))
    for index in range(4):
        await store.put(chunk(bytes([index]) * 9), bytes([index]) * 9)
    await store.put(manifest, b"m")
    await store.put(clear, b"")
    other = SealedStore(memory, Other())
    await other.put(chunk(b"of another key"), b"of another key")
    for foreign in ("wards/sealed/chunks/readme", "wards/sealed/chunks/00/" + "0" * 96, "wards/chunks/ab/in-clear"):
        memory.objects[foreign] = b""

    async def listed(prefix: str) -> list[str]:
        return sorted([info.key async for info in store.list(prefix)])

    assert await listed("wards/chunks/") == chunks
    assert await listed(chunks[2][:18]) == [key for key in chunks if key.startswith(chunks[2][:18])]
    assert await listed("wards/manifests/") == [manifest]
    assert await listed("wards/") == sorted([*chunks, manifest, clear])
    assert await listed("wards/landing/") == [clear]
    assert await listed("wards/sealed/") == []
    assert await listed("") == ["wards/chunks/ab/in-clear", clear]
    await store.delete(manifest)
    assert await listed("wards/m") == []


async def test_names_may_be_sealed_below() -> None:
    memory = InMemoryObjectStore()
    store = SealedStore(memory, Ring(), names=False)
    data = CHANCE.randbytes(SEGMENT + 5)
    await store.put(chunk(data), data)
    assert list(memory.objects) == [chunk(data)]
    assert memory.objects[chunk(data)] == KEY.segments(chunk(data)).seal(data)
    assert await store.get_range(chunk(data), SEGMENT, 5) == data[SEGMENT:]


async def test_a_store_that_knows_no_sizes_is_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = InMemoryObjectStore()
    store = SealedStore(memory, Ring())
    await store.put(chunk(b"0123456789"), b"0123456789")

    async def unknown(key: str) -> ObjectInfo:
        return ObjectInfo(key, -1)

    monkeypatch.setattr(memory, "head", unknown)
    assert await store.get_range(chunk(b"0123456789"), 2, 3) == b"234"
    with pytest.raises(Invalid):
        await store.get_range(chunk(b"0123456789"), 9, 3)
    info = await store.head(chunk(b"0123456789"))
    assert info is not None
    assert info.size == -1


def memory_of(*answers: Known | Exception) -> tuple[KeyMemory, list[str]]:
    asked: list[str] = []

    async def ask(project: str) -> Known:
        asked.append(project)
        answer = answers[min(len(asked), len(answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return KeyMemory(ask, SystemClock(), seconds=3_600), asked


async def test_keys_are_asked_for_once_and_what_is_open_each_time() -> None:
    ring, asked = memory_of(Known(None, settled=False), Known(None, settled=False), Known(KEY, settled=True))
    assert [await ring.key_of("wards") for _ in range(5)] == [None, None, KEY, KEY, KEY]
    assert len(asked) == 3
    ring, asked = memory_of(Known(None, settled=True))
    assert [await ring.key_of("wards") for _ in range(3)] == [None] * 3
    assert len(asked) == 1


async def test_who_cannot_be_asked_or_may_not_have_the_key_writes_nothing(memory: InMemoryObjectStore) -> None:
    for refusal in (Unavailable("away"), Forbidden("no")):
        ring, asked = memory_of(refusal, Known(KEY, settled=True))
        store = SealedStore(memory, ring)
        with pytest.raises(type(refusal)):
            await store.put(chunk(b"x"), b"x")
        assert memory.objects == {}
        assert await ring.key_of("wards") == KEY
        assert len(asked) == 2
