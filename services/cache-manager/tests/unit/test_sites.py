"""What can be a site."""

from __future__ import annotations

import pytest

from cache_manager.application.sites import check_path
from cache_manager.domain.charge import Charge, Site
from cache_manager.errors import SiteInvalid


@pytest.mark.parametrize(
    "path", ["/", "//", "/etc", "/proc/self", "relative", "/mnt/../etc", "/mnt/a\0b", "/" + "x" * 2_000, ""]
)
def test_paths_that_are_refused(path: str) -> None:
    with pytest.raises(SiteInvalid):
        check_path(path)


def test_paths_are_made_normal() -> None:
    assert check_path("/mnt//nfs-a/./x/") == "/mnt/nfs-a/x"


def test_room_is_never_negative() -> None:
    site = Site("s", "/mnt/s", Charge(10, 10), Charge(20, 5))
    assert site.free == Charge(0, 5)
    assert Charge(0, 5).fits(site.free)
    assert not Charge(1, 1).fits(site.free)
