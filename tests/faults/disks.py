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

_READS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#include <unistd.h>

static int is_bad(int file, off_t start, size_t count) {
    char name[64], path[4096];
    const char *end = getenv("UNREADABLE_FILE");
    off_t bad = atoll(getenv("UNREADABLE_FROM"));
    snprintf(name, sizeof name, "/proc/self/fd/%d", file);
    ssize_t length = readlink(name, path, sizeof path - 1);
    if (length < (ssize_t)strlen(end)) return 0;
    path[length] = 0;
    if (strcmp(path + length - strlen(end), end)) return 0;
    return start < bad + 4096 && start + (off_t)count > bad;
}

ssize_t read(int file, void *to, size_t count) {
    if (is_bad(file, lseek(file, 0, SEEK_CUR), count)) { errno = EIO; return -1; }
    return ((ssize_t (*)(int, void *, size_t))dlsym(RTLD_NEXT, "read"))(file, to, count);
}

ssize_t pread64(int file, void *to, size_t count, off64_t start) {
    if (is_bad(file, start, count)) { errno = EIO; return -1; }
    return ((ssize_t (*)(int, void *, size_t, off64_t))dlsym(RTLD_NEXT, "pread64"))(
        file, to, count, start);
}

ssize_t pread(int file, void *to, size_t count, off_t start) {
    return pread64(file, to, count, start);
}

int link(const char *old, const char *new) {
    errno = EPERM;
    return -1;
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
    sign = folder / "broken"
    return {"LD_PRELOAD": _compiled(folder, _SHIM), "DISK_IS_BROKEN": str(sign)}, sign


def unreadable(folder: Path, name: str, start: int) -> dict[str, str]:
    """An environment in which 4096 bytes of a file cannot be read, and no file gets two names."""
    return {
        "LD_PRELOAD": _compiled(folder, _READS),
        "UNREADABLE_FILE": f"/{name}",
        "UNREADABLE_FROM": str(start),
    }


def _compiled(folder: Path, program: str) -> str:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    source, library = folder / "shim.c", folder / "shim.so"
    source.write_text(program)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return str(library)


def obey_permissions() -> None:
    """Has a child that is yet to be started heed the permissions of files, as root too."""
    if os.geteuid() == 0:
        _LIBC.prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)
