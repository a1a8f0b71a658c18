"""Which files of a folder, or of a version, are meant: an ignore file and patterns, as `.gitignore` writes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from millrace.errors import Invalid

IGNORE_FILE = ".millraceignore"
MAX_IGNORE_BYTES = 1024 * 1024

Skip = Callable[[str, bool], bool]


def skipping(root: Path, *, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> Skip | None:
    """Return what the scan of `root` leaves out, or None where it leaves nothing out.

    Patterns are those of `.gitignore`; the ignore file at the top of the folder is never data itself. `include`
    keeps only files that match.

    Raises:
        Invalid: a pattern cannot be, or the ignore file is no short text.
    """
    ignored = _ignore_file(root)
    if ignored is None and not include and not exclude:
        return None
    out, only = _matcher([*(ignored or ()), *exclude]), _matcher(include)

    def skip(path: str, is_folder: bool) -> bool:
        if path == IGNORE_FILE or out(f"{path}/" if is_folder else path):
            return True
        return bool(include) and not is_folder and not only(path)

    return skip


def wanted(*, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> Callable[[str], bool] | None:
    """Return whether a file of a version is meant, or None where all are.

    Raises:
        Invalid: a pattern cannot be.
    """
    if not include and not exclude:
        return None
    out, only = _matcher(exclude), _matcher(include)
    return lambda path: not out(path) and (not include or only(path))


def _ignore_file(root: Path) -> list[str] | None:
    path = root / IGNORE_FILE
    if not path.is_file():
        return None
    if path.stat().st_size > MAX_IGNORE_BYTES:
        raise Invalid(f"{path} is longer than {MAX_IGNORE_BYTES} bytes")
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise Invalid(f"{path} is not UTF-8 text") from None


def _matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    from pathspec import GitIgnoreSpec

    try:
        return GitIgnoreSpec.from_lines(patterns).match_file
    except ValueError as error:
        raise Invalid(f"a pattern cannot be read: {error}") from None
