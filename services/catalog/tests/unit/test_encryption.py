"""When a project is encrypted, who gets its key, and what a wrong master key means."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any

import pytest

from catalog.adapters.lake import ObjectStoreLake
from catalog.adapters.master_keys import MasterKeys, parse_master_keys
from catalog.adapters.project_keys import own_keys
from catalog.application.encryption import check_sealed, encrypt_project, hand_out, rewrap
from catalog.domain.encryption import Encryption
from catalog.errors import AlreadyInClear, KeyLocked, NotSealedSo
from millrace.auth import ROLES
from millrace.errors import Invalid, NotFound
from millrace.sealing import ProjectKey, SealedStore

from .conftest import ANNA, World

MASTERS = [secrets.token_bytes(32) for _ in range(2)]


@pytest.fixture
def box() -> MasterKeys:
    return MasterKeys(MASTERS[:1])


async def encrypt(world: World, box: MasterKeys) -> Any:
    return await world.run(encrypt_project, ANNA, keys=box, clock=world.clock)


async def test_a_fresh_project_is_encrypted_once(world: World, box: MasterKeys) -> None:
    first, again = await encrypt(world, box), await encrypt(world, box)
    assert (first.status, again.status) == (201, 200)
    assert first.body == again.body
    assert (first.body["encrypted"], first.body["settled"]) == (True, True)
    await world.dataset()
    key = await own_keys(world.documents, box, world.clock).key_of("default")
    assert key is not None
    assert key.id == first.body["key_id"]
    assert [row.action for row in world.documents.trail.rows.values()] == ["project.encrypt", "dataset.create"]


async def test_a_project_with_a_dataset_stays_in_clear(world: World, box: MasterKeys) -> None:
    await world.dataset()
    with pytest.raises(AlreadyInClear):
        await encrypt(world, box)
    assert await own_keys(world.documents, box, world.clock).key_of("default") is None
    world.documents.encryptions.rows.clear()  # as a catalog before this one left it
    with pytest.raises(AlreadyInClear):
        await encrypt(world, box)


async def test_without_a_master_key_nothing_is_encrypted(world: World) -> None:
    with pytest.raises(KeyLocked) as refused:
        await encrypt(world, MasterKeys())
    assert "MILLRACE_CATALOG_MASTER_KEY_FILE" in str(refused.value.hint)
    assert not world.documents.encryptions.rows


async def test_the_key_is_handed_out_and_that_is_written_down(world: World, box: MasterKeys) -> None:
    with pytest.raises(NotFound):
        await world.run(hand_out, ANNA, keys=box)
    await encrypt(world, box)
    found = await world.run(hand_out, ANNA, keys=box)
    key = ProjectKey.from_text("default", found["key"])
    assert found["key_id"] == key.id
    stored = world.documents.encryptions.rows["default"]
    remembered = repr([*world.documents.trail.rows.values(), stored])
    for secret in (key.text, key.secret.hex(), repr(key.secret), stored.wrapped):
        assert secret not in remembered
    rows = [row for row in world.documents.trail.rows.values() if row.action == "project.key"]
    assert [(row.principal, row.resource) for row in rows] == [("anna", "project:default")]


async def test_uploads_say_what_they_are_sealed_with(world: World, box: MasterKeys) -> None:
    assert await check_sealed("default", None, documents=world.documents) is None
    made = await encrypt(world, box)
    assert await check_sealed("default", made.body["key_id"], documents=world.documents) == made.body["key_id"]
    for claimed in (None, "0" * 16):
        with pytest.raises(NotSealedSo):
            await check_sealed("default", claimed, documents=world.documents)
    with pytest.raises(NotSealedSo):
        await check_sealed("other", "0" * 16, documents=world.documents)


async def test_keys_are_wrapped_again_with_the_first_master_key(world: World, box: MasterKeys) -> None:
    await encrypt(world, box)
    key = await own_keys(world.documents, box, world.clock).key_of("default")
    assert await world.run(rewrap, box) == []
    assert world.documents.encryptions.rows["default"].revision == 0
    assert await world.run(rewrap, MasterKeys([MASTERS[1], MASTERS[0]])) == []
    assert await own_keys(world.documents, MasterKeys(MASTERS[1:]), world.clock).key_of("default") == key
    assert await world.run(rewrap, box) == ["default"]
    for keys in (box, MasterKeys()):
        with pytest.raises(KeyLocked, match="default"):
            await own_keys(world.documents, keys, world.clock).key_of("default")


async def test_a_wrapped_key_belongs_to_its_project_and_is_not_altered(world: World, box: MasterKeys) -> None:
    await encrypt(world, box)
    stored = world.documents.encryptions.rows["default"]
    last = "0" if stored.wrapped[-1] != "0" else "1"
    for wrong in (replace(stored, project="other"), replace(stored, wrapped=stored.wrapped[:-1] + last)):
        with pytest.raises(KeyLocked, match="damaged"):
            box.unwrap(wrong)
    assert stored.wrapped not in repr(stored)


@pytest.mark.parametrize("text", ["", "\n", "ab", "x" * 64, f"{'0' * 64} {'1' * 62}", "0" * 128])
def test_what_is_no_master_key_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_master_keys(text)
    assert not text.strip() or text not in str(refused.value)


def test_master_keys_come_one_a_line() -> None:
    assert parse_master_keys("\n".join(key.hex() for key in MASTERS) + "\n") == tuple(MASTERS)


def test_who_may_pull_may_have_the_key_and_nobody_else() -> None:
    with_key = {role for role, actions in ROLES.items() if "datasets:key" in actions}
    people = {"viewer", "contributor", "trainer", "deployer", "admin", "owner"}
    assert with_key == people | {"service-ingest", "service-cache-manager", "service-drift-monitor"}
    assert {role for role, actions in ROLES.items() if "datasets:encrypt" in actions} == {"admin", "owner"}


async def test_versions_are_committed_from_sealed_objects_only(world: World, box: MasterKeys) -> None:
    await encrypt(world, box)
    await world.dataset()
    plain = await world.push(a=b"1")
    sealed = SealedStore(world.store, own_keys(world.documents, box, world.clock))
    world.lake = ObjectStoreLake(sealed)
    with pytest.raises(Invalid, match="not in the lake"):
        await world.commit(plain)
    raw, world.store = world.store, sealed  # type: ignore[assignment]
    made = await world.commit(await world.push(a=b"1"))
    assert made.status == 201
    listed = {(item.kind, item.id) async for item in world.lake.objects("default")}
    assert ("commits", made.body["commit"]) in listed
    assert {kind for kind, _ in listed} == {"packs", "manifests", "commits"}
    assert [key for key in raw.objects if made.body["commit"] in key] == []


def test_nothing_is_settled_by_looking() -> None:
    assert Encryption(id="a", project="a", settled_by="b", settled_at=None).sealed is False  # type: ignore[arg-type]
