"""Disks that fail: a small one, a read-only one, and one whose syncs fail. All of them real."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

PR_CAPBSET_DROP = 24
CAP_DAC_OVERRIDE = 1
"""What root may write everywhere by: see capabilities(7)."""
_LIBC = ctypes.CDLL(None)

_SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static int is_broken(void) {
    const char *sign = getenv("DISK_IS_BROKEN");
    return sign && access(sign, F_OK) == 0;
}

int fsync(int file) {
    if (is_broken()) { errno = EIO; return -1; }
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(file);
}

int fdatasync(int file) {
    if (is_broken()) { errno = EIO; return -1; }
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(file);
}
"""


@dataclass(frozen=True)
class SmallDisk:
    """A tmpfs of its own."""

    folder: Path

    def grow(self) -> None:
        """There is room again."""
        subprocess.run(["mount", "-o", "remount,size=64m", self.folder], check=True)

    def fill(self, spare: int = 0) -> None:
        """Take all that is left, but so many bytes."""
        with (self.folder / "ballast").open("ab", buffering=0) as ballast:
            status = os.statvfs(self.folder)
            ballast.write(bytes(max(0, status.f_bavail * status.f_frsize - spare)))

    def free(self) -> None:
        """Give back what `fill` took."""
        (self.folder / "ballast").unlink()

    def forbid_writing(self) -> None:
        """From now on it is read-only, for root too."""
        subprocess.run(["mount", "-o", "remount,ro", self.folder], check=True)


@contextmanager
def small_disk(folder: Path, size: str = "1m") -> Iterator[SmallDisk]:
    """A disk of that size at `folder`. Skips the test where nothing can be mounted."""
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mounting, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount; the size limits of test_disk.py need none")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def failing_syncs(folder: Path) -> tuple[dict[str, str], Path]:
    """An environment in which every sync fails with EIO while a file exists; and that file."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    source, library, sign = folder / "shim.c", folder / "shim.so", folder / "broken"
    source.write_text(_SHIM)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return {"LD_PRELOAD": str(library), "DISK_IS_BROKEN": str(sign)}, sign


def obey_permissions() -> None:
    """Has a child that is yet to be started heed the permissions of files, as root too."""
    if os.geteuid() == 0:
        _LIBC.prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)
