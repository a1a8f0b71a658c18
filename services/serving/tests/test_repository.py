"""What a version folder looks like on disk."""

from __future__ import annotations

import stat
from pathlib import Path

from serving.adapters.repository_folder import _publish, _remove, _seal


def test_a_published_version_is_not_written_to_and_can_be_deleted_by_its_owner(tmp_path: Path) -> None:
    built, target = tmp_path / "built", tmp_path / "digits.v1"
    (built / "1").mkdir(parents=True)
    (built / "1" / "model.onnx").write_bytes(b"weights")
    (built / "config.pbtxt").write_text("name: 'digits.v1'")
    _seal(built)
    _publish(built, target)
    for path in (target, *target.rglob("*")):
        writable = bool(path.stat().st_mode & stat.S_IWUSR)
        assert writable == path.is_dir(), path
    _remove(target, tmp_path / "gone")
    assert list(tmp_path.iterdir()) == []
    _remove(target, tmp_path / "gone")
