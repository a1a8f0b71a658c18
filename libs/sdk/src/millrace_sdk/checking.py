"""A dataset's checks on the folder that is to become its next version: found out before a byte is sent."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from blake3 import blake3

from millrace.checks import Checks, Failure
from millrace.checks.evaluate import check_listing, failures, judge_table
from millrace.errors import ChecksFailed, NotFound

if TYPE_CHECKING:
    from millrace.checks.document import Check, PythonRule
    from millrace.datasets.manifest import Manifest

PROGRAM_SECONDS = 3_600.0
MAX_REASON = 500


def check_folder(checks: Checks, root: Path, manifest: Manifest) -> dict[str, str]:
    """Run every check on a folder whose manifest is known; return what `commit` attests: check → program's digest.

    Programs of the project's own run with the folder as their only argument and their working directory; exit code 0
    passes, and of another the last line that was printed is the reason.

    Raises:
        ChecksFailed: some fail; the error names them all.
    """
    found = check_listing(checks, manifest, None)
    attested: dict[str, str] = {}
    for check in checks.checks:
        if check.table is not None and manifest.find(check.table.file) is not None:
            found += failures(check, judge_table(check.table, root / check.table.file))
        elif check.python is not None:
            found += failures(check, _run(check.python, root))
            attested[check.name] = str(check.python.blake3)
    if found:
        raise ChecksFailed(
            f"{len(found)} checks failed. " + "; ".join(map(str, found)),
            hint="`millrace data checks show` lists what every version must hold",
            failures=[_view(failure) for failure in found],
        )
    return attested


def _view(failure: Failure) -> dict[str, object]:
    return {"check": failure.check, "reason": failure.reason, "where": list(failure.where)}


def _run(rule: PythonRule, root: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    try:
        program = find_program(rule.file, root)
    except NotFound as error:
        yield error.message, ()
        return
    if digest_of(program) != rule.blake3:
        yield f"{program} is not the text that the dataset demands", ()
        return
    try:
        done = subprocess.run(  # noqa: S603 - the program is the caller's own, and the text that was agreed upon
            [sys.executable, str(program), str(root)],
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PROGRAM_SECONDS,
            check=False,
            env={name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_TOKEN")},
        )
    except subprocess.TimeoutExpired:
        yield f"{rule.file} did not end within {PROGRAM_SECONDS:.0f} s", ()
        return
    if done.returncode:
        lines = done.stdout.decode(errors="replace").strip().splitlines()
        yield (lines[-1][:MAX_REASON] if lines else f"{rule.file} ended with exit code {done.returncode}"), ()


def find_program(file: str, root: Path) -> Path:
    """Return a program by its path in the folder, or in a folder above it, up to the top of the repository.

    Raises:
        NotFound: it lies in none of them.
    """
    for folder in (root, *root.parents):
        if (folder / file).is_file():
            return folder / file
        if (folder / ".git").exists():
            break
    raise NotFound(f"{file} lies neither in {root} nor above it in its repository")


def digest_of(program: Path) -> str:
    """Return the BLAKE3 of a program's text, hex."""
    return blake3(program.read_bytes()).hexdigest()


def with_digests(checks: Checks, root: Path) -> Checks:
    """Return the checks with the digests of the programs as they are now.

    Raises:
        NotFound: a program lies nowhere.
    """
    return Checks(checks=tuple(_with_digest(check, root) for check in checks.checks))


def _with_digest(check: Check, root: Path) -> Check:
    if check.python is None:
        return check
    digest = digest_of(find_program(check.python.file, root))
    return check.model_copy(update={"python": check.python.model_copy(update={"blake3": digest})})
