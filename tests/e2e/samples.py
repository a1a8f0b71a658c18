"""Data that people look at: a DICOM series, photographs, texts, and names that pages must bear."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image
from pydicom.data import get_testdata_file

from tests.e2e.conftest import Platform

LONG = f"{'long-name-' * 20}.txt"
SLICES = 6


def dicom(name: str) -> bytes:
    """A sample file of pydicom's."""
    return Path(str(get_testdata_file(name))).read_bytes()


def photograph(colour: str) -> bytes:
    """A small picture."""
    out = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(out, "PNG")
    return out.getvalue()


def files() -> dict[str, bytes]:
    """The first version of the dataset."""
    slices = {f"chest/{number:03d}.dcm": dicom("CT_small.dcm") for number in range(SLICES)}
    pictures = {f"photos/{name}.png": photograph(name) for name in ("red", "green", "blue")}
    return {
        **slices,
        **pictures,
        "many.dcm": dicom("examples_ybr_color.dcm"),
        "plan.dcm": dicom("rtplan.dcm"),
        "broken.png": b"\x89PNG\r\n\x1a\nbroken",
        "notes.md": b"# Notes\n\n<script>alert(1)</script>\n",
        "data.bin": bytes(range(256)),
        "empty.txt": b"",
        'odd/ä & b#c?d%e/"quoted" <b>.txt': b"odd",
        LONG: b"long",
    }


def sync(platform: Platform, folder: Path, dataset: str, message: str) -> None:
    """Commit a folder as people do."""
    environment = {**os.environ, "MILLRACE_URL": platform.urls["gateway"], "MILLRACE_TOKEN": platform.token}
    command = [str(Path(sys.executable).with_name("millrace")), "data"]
    for arguments in (["init", dataset], ["sync", "-m", message]):
        done = subprocess.run(
            [*command, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr


def write(folder: Path, contents: dict[str, bytes]) -> None:
    """Write files below a folder."""
    for path, data in contents.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def make(platform: Platform, folder: Path) -> dict[str, Any]:
    """Two versions of the dataset `scans`."""
    contents = files()
    write(folder, contents)
    sync(platform, folder, "scans", "first scans")
    (folder / "photos/red.png").unlink()
    (folder / "notes.md").write_bytes(b"# Other notes\n")
    (folder / "added.csv").write_bytes(b"a,b\n1,2\n")
    sync(platform, folder, "scans", "fewer pictures")
    return {"dataset": "scans", "files": contents}
