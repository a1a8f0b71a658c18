from __future__ import annotations

import pytest

from millrace.datasets import keys
from millrace.errors import Invalid

ID = "ab" * 32


def test_keys_have_their_places() -> None:
    assert keys.pack_key("default", ID) == f"default/packs/ab/{ID}"
    assert keys.chunk_key("default", ID) == f"default/chunks/ab/{ID}"
    assert keys.manifest_key("default", ID) == f"default/manifests/{ID}"
    assert keys.commit_key("default", ID) == f"default/commits/{ID}"
    assert keys.model_key("p", ID, "package.json") == f"p/models/{ID}/package.json"
    assert keys.run_key("p", "r", 3, "logs/out.txt") == "p/runs/r/3/logs/out.txt"
    assert keys.sample_key("p", ID) == f"p/samples/{ID}"
    assert keys.reference_key("p", ID) == f"p/references/{ID}"
    assert keys.landing_prefix("p", "zone/2026") == "p/landing/zone/2026/"


@pytest.mark.parametrize("kind", keys.KINDS)
def test_keys_can_be_taken_apart(kind: keys.Kind) -> None:
    assert keys.parse_object_key(keys.object_key("default", kind, ID)) == ("default", kind, ID)


@pytest.mark.parametrize(
    "key", ["", "a/b", f"default/packs/{ID}", f"default/packs/cd/{ID}", f"../packs/ab/{ID}", f"default/others/{ID}"]
)
def test_other_keys_are_refused(key: str) -> None:
    with pytest.raises(Invalid):
        keys.parse_object_key(key)


@pytest.mark.parametrize("project", ["", "../x", "A", "a/b", "-a", "a\n", "x" * 64])
def test_no_key_leaves_its_project(project: str) -> None:
    for make in (keys.pack_key, keys.manifest_key, keys.sample_key, keys.reference_key):
        with pytest.raises(Invalid):
            make(project, ID)
    with pytest.raises(Invalid):
        keys.landing_prefix(project, "zone")


@pytest.mark.parametrize("digest", ["", "ab", "AB" * 32, "ab" * 32 + "\n", "../" + "a" * 61])
def test_only_digests_name_objects(digest: str) -> None:
    with pytest.raises(Invalid):
        keys.pack_key("default", digest)


@pytest.mark.parametrize("path", ["../x", "a//b", "", "/a"])
def test_no_path_leaves_its_prefix(path: str) -> None:
    with pytest.raises(Invalid):
        keys.model_key("p", ID, path)
    with pytest.raises(Invalid):
        keys.run_key("p", "r", 1, path)
    with pytest.raises(Invalid):
        keys.landing_prefix("p", path)


def test_a_run_never_has_a_negative_fence() -> None:
    with pytest.raises(Invalid):
        keys.run_key("p", "r", -1, "x")
    with pytest.raises(Invalid):
        keys.object_key("p", "secrets", ID)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", keys.LAKE_KINDS)
def test_all_that_a_dataset_consists_of_is_found_by_its_key(kind: keys.LakeKind) -> None:
    assert keys.find_lake_key(keys.lake_key("default", kind, ID)) == ("default", kind, ID)
    assert keys.sealed_key("p", kind, "cd" * 48) == f"p/sealed/{kind}/cd/{'cd' * 48}"
    assert keys.sealed_key("p", kind, "cd" * 48).startswith(keys.sealed_prefix("p", kind))
    with pytest.raises(Invalid):
        keys.sealed_key("p", kind, ID)
    with pytest.raises(Invalid):
        keys.sealed_prefix("../x", kind)


@pytest.mark.parametrize(
    "key", ["", "/", ID, f"p/{ID}", f"p/packs/{ID}", f"p/records/ab/{ID}", f"P/records/{ID}", f"p/models/{ID}/{ID}"]
)
def test_what_is_no_datasets_object_is_not_found(key: str) -> None:
    assert keys.find_lake_key(key) is None
