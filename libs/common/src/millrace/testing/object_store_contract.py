"""What every `ObjectStore` must do. A test module subclasses this and gives the fixture `store`."""

from __future__ import annotations

from datetime import timedelta

import pytest

from millrace.errors import Invalid, NotFound
from millrace.objects import ObjectStore, probe

BAD_KEYS = ["", "/a", "a/", "a//b", "a/../b", "./a", "a\0b", "a\nb", "x" * 1025, "\udcff"]
ODD_KEYS = ["a b", "a+b", "a%20b", "a=b@c", "ä/ß", "a~b", "a#b?c", "deep/er/and/deeper", "UPPER", "[x]*"]


class ObjectStoreContract:
    """The contract suite: one class, run on memory and on real servers."""

    async def test_what_is_put_is_got(self, store: ObjectStore) -> None:
        """Bytes come back, empty ones and views too, and a second put replaces them."""
        for data in (b"", b"x", bytes(range(256)) * 5_000):
            assert await store.put("a/b", data)
            assert await store.get("a/b") == data
        await store.put("a/b", memoryview(b"view"))
        assert await store.get("a/b") == b"view"

    async def test_a_missing_object_is_said_to_be_missing(self, store: ObjectStore) -> None:
        """GET says NotFound, HEAD says None, DELETE is content."""
        with pytest.raises(NotFound):
            await store.get("nothing")
        with pytest.raises(NotFound):
            await store.get_range("nothing", 0, 1)
        assert await store.head("nothing") is None
        await store.delete("nothing")

    async def test_create_only_never_overwrites(self, store: ObjectStore) -> None:
        """The first create-only PUT wins and the second says False."""
        assert await store.put("once", b"first", create_only=True) is True
        assert await store.put("once", b"second", create_only=True) is False
        assert await store.get("once") == b"first"

    async def test_an_object_is_read_into_a_buffer(self, store: ObjectStore) -> None:
        """It comes to the front, what is behind it stays; one that does not fit is not read; a missing one is."""
        data = bytes(range(256)) * 20_000
        await store.put("whole", data)
        buffer = bytearray(b"?" * (len(data) + 3))
        assert await store.get_into("whole", memoryview(buffer)) == len(data)
        assert buffer == data + b"???"
        exact, short = bytearray(len(data)), bytearray(b"?" * 1_000)
        assert await store.get_into("whole", memoryview(exact)) == len(data)
        assert exact == data
        assert await store.get_into("whole", memoryview(short)) == len(data)
        assert short == b"?" * 1_000
        await store.put("empty", b"")
        assert await store.get_into("empty", memoryview(bytearray())) == 0
        with pytest.raises(NotFound):
            await store.get_into("nothing", memoryview(short))

    async def test_ranges_are_exact(self, store: ObjectStore) -> None:
        """Ranges come in the order asked, overlapping and empty ones too; past the end is an error."""
        data = bytes(range(256)) * 4_096
        await store.put("ranged", data)
        assert await store.get_range("ranged", 10, 5) == data[10:15]
        wanted = [(900_000, 10), (0, 3), (2, 5), (7, 0), (500_000, 100_000)]
        assert list(await store.get_ranges("ranged", wanted)) == [data[at : at + size] for at, size in wanted]
        for start, length in ((len(data) - 1, 2), (len(data), 1), (len(data) + 5, 1), (-1, 1)):
            with pytest.raises(Invalid):
                await store.get_range("ranged", start, length)

    async def test_head_and_list_agree(self, store: ObjectStore) -> None:
        """Listing takes any prefix, not only whole folders, and tells sizes."""
        for key in ("p/b/2", "p/a", "p/b/1", "p/ba", "q/a"):
            await store.put(key, key.encode())
        assert sorted([info.key async for info in store.list("p/")]) == ["p/a", "p/b/1", "p/b/2", "p/ba"]
        assert sorted([info.key async for info in store.list("p/b")]) == ["p/b/1", "p/b/2", "p/ba"]
        assert [info.size async for info in store.list("q/")] == [3]
        assert [info.key async for info in store.list("none/")] == []
        info = await store.head("p/ba")
        assert info is not None
        assert (info.key, info.size) == ("p/ba", 4)

    async def test_more_objects_than_a_page(self, store: ObjectStore) -> None:
        """A listing goes on past the server's page."""
        for number in range(1_030):
            await store.put(f"many/{number:05d}", b"")
        assert len([info async for info in store.list("many/")]) == 1_030

    async def test_delete_removes(self, store: ObjectStore) -> None:
        """After a delete the object is gone."""
        await store.put("gone", b"x")
        await store.delete("gone")
        assert await store.head("gone") is None

    @pytest.mark.parametrize("key", BAD_KEYS)
    async def test_bad_keys_are_refused(self, store: ObjectStore, key: str) -> None:
        """Keys that servers or clients would read differently never leave."""
        for call in (store.put(key, b""), store.get(key), store.head(key), store.delete(key)):
            with pytest.raises(Invalid):
                await call
        with pytest.raises(Invalid):
            await store.presign("GET", key, expires=timedelta(minutes=1))

    @pytest.mark.parametrize("key", ODD_KEYS)
    async def test_odd_keys_survive(self, store: ObjectStore, key: str) -> None:
        """Spaces, signs and letters of any script come back as they went."""
        await store.put(f"odd/{key}", key.encode())
        assert await store.get(f"odd/{key}") == key.encode()
        assert [info.key async for info in store.list("odd/")] == [f"odd/{key}"]

    async def test_the_probe_finds_what_we_need_and_cleans_up(self, store: ObjectStore) -> None:
        """Ranges and create-only PUT are there, and nothing stays behind. Key order is only recorded."""
        found = await probe(store)
        assert (found.ranges, found.create_only) == (True, True)
        assert [note for note in found.notes if "key order" not in note] == []
        assert [info.key async for info in store.list("probe/")] == []
