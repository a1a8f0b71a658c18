"""The cache's tests on a real NFS mount: a user-mode guest serves a disk by nfs-ganesha and mounts it twice itself.

A kernel that may mount NFS is not at hand everywhere; user-mode Linux brings one as a program.
Needs Debian's packages (see `PACKAGES`). Without them nothing is tested, and this says so: exit code 3, or 0 where
`NFS=optional`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
OUT = ROOT / ".millrace-nfs"
LEFT = ("arguments", "exit-code", "junit.xml", "ganesha.log", "kernel.log")
"""What a run leaves in its folder."""
NOT_RUN = 3

PACKAGES = {
    "user-mode-linux": "/usr/bin/linux.uml",
    "nfs-ganesha": "/usr/bin/ganesha.nfsd",
    "nfs-ganesha-vfs": "/usr/lib/x86_64-linux-gnu/ganesha/libfsalvfs.so",
    "nfs-common": "/usr/sbin/mount.nfs",
    "rpcbind": "/usr/sbin/rpcbind",
    "kmod": "/usr/sbin/modprobe",
    "iproute2": "/usr/bin/ss",
    "e2fsprogs": "/usr/sbin/mkfs.ext4",
}
"""Each Debian package that is needed, and a file of it."""

TESTS = "services/cache-manager/tests/integration"
ON_THE_FOLDER = (
    *("adopt", "crashes", "early", "fill", "hosts", "leases", "readers", "resume", "scrub", "selections", "sweep"),
    *("processes", "early_processes"),
)
"""What touches a site's folder; the rest of the suite is about MongoDB, HTTP and sums, which NFS does not change."""


def say(line: str) -> None:
    """Print a line after what the guest said."""
    sys.stderr.write(f"make test-nfs: {line}\n")
    sys.stderr.flush()


def missing() -> list[str]:
    """Return the packages that are not installed."""
    return [package for package, file in PACKAGES.items() if not Path(file).exists()]


def arguments(given: list[str]) -> list[str]:
    """Return what pytest is called with in the guest, whose root is read-only."""
    tests = [] if any("tests/" in item for item in given) else [f"{TESTS}/test_{name}.py" for name in ON_THE_FOLDER]
    fixed = "-p no:cacheprovider -p no:xdist --timeout=300 --junitxml=/mnt/out/junit.xml -o junit_family=xunit1"
    return [*fixed.split(), *given, *tests]


def boot(options: argparse.Namespace) -> None:
    """Run the guest to its end, or kill it once its time is up."""
    memory = int(options.memory)
    with contextlib.ExitStack() as stack:
        disks = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="millrace-nfs-")))
        shared = Path("/dev/shm")  # noqa: S108 - the guest's memory is a file, and wants a tmpfs
        home = shared if shared.is_dir() and shutil.disk_usage(shared).free > 2 * memory * 2**20 else None
        ram = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="millrace-nfs-", dir=home)))
        disk = disks / "disk"
        with disk.open("wb") as file:
            file.truncate(4 * 2**30)
        kernel = {
            "rootfstype": "hostfs",
            "mem": f"{memory}M",
            "ubda": str(disk),
            "uml_dir": str(ram),
            "con": "null",
            "con0": "null,fd:1",
            "init": str(ROOT / "tools/nfs/guest.sh"),
            "NFS_REPO": str(ROOT),
            "NFS_OUT": str(options.out),
            "NFS_VERSION": options.nfs_version,
            "NFS_NODE_OPTIONS": f"ro,actimeo={options.attribute_seconds},lookupcache={options.lookup_cache}",
            "NFS_ATTRIBUTE_SECONDS": str(options.attribute_seconds),
            "NFS_SECONDS": str(options.seconds),
        }
        command = [PACKAGES["user-mode-linux"], "ro", "quiet", *(f"{name}={value}" for name, value in kernel.items())]
        guest = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            env={"TMPDIR": str(ram), "HOME": str(ram), "PATH": os.environ["PATH"]},
            start_new_session=True,
        )
        try:
            guest.wait(options.seconds + 120)
        except subprocess.TimeoutExpired:
            say("the guest did not end in time and is killed")
        finally:
            with contextlib.suppress(ProcessLookupError):  # its processes on this host are one group
                os.killpg(guest.pid, signal.SIGKILL)
            guest.wait()


def main() -> int:
    """Check what is needed, run the guest, and return what pytest returned in it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--nfs-version", default="4.2", choices=["3", "4.1", "4.2"])
    parser.add_argument("--attribute-seconds", type=int, default=3, help="attribute cache of the nodes' mount")
    parser.add_argument(
        "--lookup-cache", default="all", choices=["all", "positive", "none"], help="of the nodes' mount"
    )
    parser.add_argument("--seconds", type=int, default=1_800, help="after which the tests are stopped")
    parser.add_argument("--memory", type=int, default=2_048, help="MiB of the guest")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of JUnit report and logs")
    options, given = parser.parse_known_args()
    if absent := missing():
        say(f"NOT RUN, nothing was tested on NFS. It needs: apt install --no-install-recommends {' '.join(absent)}")
        return 0 if os.environ.get("NFS") == "optional" else NOT_RUN
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the guest ends with whoever asked for it
    out = options.out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    for name in LEFT:
        (out / name).unlink(missing_ok=True)
    (out / "arguments").write_text("".join(f"{item}\n" for item in arguments(given)))
    boot(options)
    try:
        code = int((out / "exit-code").read_text())
    except (OSError, ValueError):
        say(f"the guest ended before its tests did; what it left is in {out}")
        return 1
    say(f"NFS {options.nfs_version}, {'passed' if code == 0 else 'FAILED'}; see {out}")
    return 0 if code == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
