"""mongod finds libcurl and OpenSSL in pycurl's wheel where the system has none."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from millrace_stack import binaries, libcurl


def test_mongod_runs_on_the_wheels_libraries(tmp_path: Path) -> None:
    path = libcurl.supply(tmp_path / "lib")
    mongod = binaries.resolve(binaries.MONGO)
    traced = subprocess.run(
        ["/lib64/ld-linux-x86-64.so.2", "--list", str(mongod)],
        env={"LD_LIBRARY_PATH": path, "PATH": os.defpath},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in libcurl.WANTED:
        assert f"{name} => {tmp_path}/lib/{name}" in traced
    assert "libcrypto-" not in traced, "two copies of OpenSSL in one process"
    assert binaries.version(mongod, env={"LD_LIBRARY_PATH": path}) == (6, 0, 5)


def test_a_system_that_has_the_libraries_keeps_them(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(libcurl, "_missing", lambda program, path=None: [])
    assert libcurl.library_path(Path("/bin/true"), tmp_path / "lib") is None
    assert not (tmp_path / "lib").exists()
