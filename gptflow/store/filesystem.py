"""Where a file really is, and on which kind of file system.

SQLite's WAL needs memory that all who have the file open share. That ends at a host, so that a
WAL on a network file system corrupts the store (https://sqlite.org/wal.html#overview).
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from gptflow.errors import StoreError
from gptflow.files import real

MOUNTINFO = Path("/proc/self/mountinfo")
"""See proc(5). Elsewhere than under Linux there is none, and every disk counts as local."""

_NETWORK = re.compile(
    "9p|acfs|afs|beegfs|ceph|cifs|coda|cvmfs|davfs|fhgfs|gfs2|glusterfs|gpfs|lustre|mapr|ncpfs?"
    "|nfs4?|ocfs2|orangefs|panfs|pvfs2|smb[23]|smbfs|vboxsf|vmhgfs|wekafs|fuse[.].*"
)
_LOCAL = re.compile("fuse[.](bindfs|encfs|fuse-overlayfs|gocryptfs|mergerfs|ntfs-3g)")


def followed(store: Path) -> Path:
    """The file that a linked store is, or the path as it stands.

    SQLite names the log after that file, and so must be named whatever else all who have the store
    open share. Raises StoreError for a link that leads nowhere but to itself.
    """
    if not os.path.islink(store):  # noqa: PTH114  # Path.is_symlink raises where it cannot tell
        return store
    file = real(store)
    if os.path.islink(file):  # noqa: PTH114  # as above
        raise StoreError(
            f"the store {store} is a link that leads back to itself",
            hint="remove it, or choose another file with --store",
        )
    return file


def is_network(kind: str) -> bool:
    """Whether other hosts may have files of such a system open.

    What FUSE serves is mostly far away: what is not known there counts as a network.
    """
    return bool(_NETWORK.fullmatch(kind) and not _LOCAL.fullmatch(kind))


def filesystem_of(path: Path, mountinfo: Path = MOUNTINFO) -> str:
    """The kind of file system, such as `ext4`, that the file is or will be on; '' if unknown."""
    with suppress(OSError):
        lines = mountinfo.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        return _kind_at(real(path), lines)
    return ""


def _kind_at(path: Path, lines: list[str]) -> str:
    """The kind of the deepest mount above the path; of several at one place the last one counts."""
    deepest, kind = -1, ""
    for line in lines:
        left, dash, right = line.partition(" - ")
        fields = left.split(" ")
        if not dash or len(fields) < 5:
            continue
        point = Path(_unescaped(fields[4]))
        depth = len(point.parts)
        if depth >= deepest and path.is_relative_to(point):
            deepest, kind = depth, right.split(" ", 1)[0]
    return kind


def _unescaped(field: str) -> str:
    """A field as it was: blanks and backslashes stand in it as three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda digits: chr(int(digits[1], 8)), field)
