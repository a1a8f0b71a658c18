"""Ids of entries and leases, hostile ones included."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache_manager.domain.names import EntryKey, LeaseName, parse_entry, parse_lease
from cache_manager.errors import EntryNotFound, LeaseLost

NAMES = st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True)
COMMITS = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
RUN = "01890000-0000-7000-8000-000000000001"


@given(NAMES, NAMES, COMMITS, st.integers(1, 10**17))
def test_ids_come_back(site: str, project: str, commit: str, token: int) -> None:
    key = EntryKey(site, project, commit)
    lease = LeaseName(key.id, RUN, token)
    assert parse_entry(key.id) == key
    assert parse_lease(lease.id) == lease
    assert len(lease.id) <= 256
    assert len(f"{key.id}.{token}") <= 255


@pytest.mark.parametrize(
    "text", ["", "a.b", "a.b." + "0" * 63, "A.b." + "0" * 64, "a.b." + "0" * 64 + "\n", "../x.y." + "0" * 64]
)
def test_other_texts_are_no_entries(text: str) -> None:
    with pytest.raises(EntryNotFound):
        parse_entry(text)
    with pytest.raises(LeaseLost):
        parse_lease(text)
