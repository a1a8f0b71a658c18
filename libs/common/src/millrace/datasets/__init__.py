"""Dataset versions: pack, manifest, commit and tree root; push, fill, verify and read.

The package loads its parts on first use, so that who needs only keys or commits does not load Arrow.
`push` and `fill` are imported from the modules of the same name.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from millrace.datasets.builder import ManifestBuilder
    from millrace.datasets.commit import Commit
    from millrace.datasets.landing import FillResult
    from millrace.datasets.manifest import Entry, Manifest, ManifestDiff, PackRef
    from millrace.datasets.progress import Progress
    from millrace.datasets.push import PushResult, extend, push_files
    from millrace.datasets.readers import Dataset
    from millrace.datasets.sources import SourceFile
    from millrace.datasets.statcache import StatCache
    from millrace.datasets.stored import load_commit, load_manifest, save_commit, save_manifest
    from millrace.datasets.verify import VerifyResult, verify_tree

_HOMES = {
    "builder": ("ManifestBuilder",),
    "commit": ("Commit",),
    "landing": ("FillResult",),
    "manifest": ("Entry", "Manifest", "ManifestDiff", "PackRef"),
    "progress": ("Progress",),
    "push": ("PushResult", "extend", "push_files"),
    "readers": ("Dataset",),
    "sources": ("SourceFile",),
    "statcache": ("StatCache",),
    "stored": ("load_commit", "load_manifest", "save_commit", "save_manifest"),
    "verify": ("VerifyResult", "verify_tree"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Commit",
    "Dataset",
    "Entry",
    "FillResult",
    "Manifest",
    "ManifestBuilder",
    "ManifestDiff",
    "PackRef",
    "Progress",
    "PushResult",
    "SourceFile",
    "StatCache",
    "VerifyResult",
    "extend",
    "load_commit",
    "load_manifest",
    "push_files",
    "save_commit",
    "save_manifest",
    "verify_tree",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
