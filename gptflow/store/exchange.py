"""A new store in the place of a damaged one, such that a death at any moment costs nothing.

A store is its file and its log, and two names cannot be changed at once: the file without its log
would pass for whole, and the new file with the old log would be destroyed. So the new store, once
it is whole, gets the name NAME.db.repaired-TIME. From then on it is the one that counts: while it
stands there nobody opens NAME.db, and the next repair goes on with the exchange.
"""

from __future__ import annotations

import glob
import os
import time
from contextlib import suppress
from pathlib import Path

from gptflow.errors import StoreCorrupt
from gptflow.files import sync_folder

_DATA = ("", "-wal", "-journal")
"""What a store's content is in: its file and, of a process that has died, its log."""


def half_made(path: Path) -> Path:
    """Where the new store is made. What is there is of a repair that has died."""
    return path.with_name(f"{path.name}.repairing")


def discard(half: Path) -> None:
    """Remove a new store that is not to be."""
    for end in _DATA:
        _beside(half, end).unlink(missing_ok=True)


def unused_stamp(path: Path, now: float) -> str:
    """The time, as it stands in the names of a repair; later if there was one at that time."""
    while True:
        stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
        if not any(_beside(damaged_name(path, stamp), end).exists() for end in _DATA):
            return stamp
        now += 1


def damaged_name(path: Path, stamp: str) -> Path:
    """What the damaged store is called afterwards."""
    return path.with_name(f"{path.stem}.damaged-{stamp}{path.suffix}")


def exchange(path: Path, half: Path, stamp: str) -> None:
    """Put a new store, whole and on the disk, in the place of the one at `path`."""
    half.replace(_repaired(path, stamp))
    sync_folder(path.parent)
    finish(path, stamp)


def finish(path: Path, stamp: str) -> None:
    """Go on with an exchange, wherever it was interrupted."""
    damaged = damaged_name(path, stamp)
    for end in _DATA:
        _keep(_beside(path, end), _beside(damaged, end))
    sync_folder(path.parent)
    for end in (*_DATA[1:], "-shm"):
        _beside(path, end).unlink(missing_ok=True)
    sync_folder(path.parent)  # before a power cut could leave the new file with the old log
    _repaired(path, stamp).replace(path)
    sync_folder(path.parent)


def unfinished(path: Path) -> str | None:
    """The stamp of an exchange that was interrupted; None if there is none."""
    start = f"{path.name}.repaired-"
    found = path.parent.glob(f"{glob.escape(start)}*")
    return max((file.name.removeprefix(start) for file in found), default=None)


def refuse_unfinished(path: Path) -> None:
    """Raises StoreCorrupt if a repair of the store did not come to its end.

    Also where nothing is left but the damaged store of a repair, or the copy of one that was lost
    under a run: a new one would pay for all again.
    """
    if unfinished(path) is not None:
        raise StoreCorrupt(
            f"a repair of the store {path} was interrupted",
            hint=f"gptflow doctor --store {path} --repair  brings it to its end",
        )
    if path.exists():
        return
    if copies := _called(path, "rescued"):
        raise StoreCorrupt(
            f"there is no store {path}, but what it held is kept beside it: {copies[-1].name}",
            hint=f"--store {copies[-1]}  goes on from there; to begin anew, move it to another "
            "folder",
        )
    if left := _called(path, "damaged-"):
        raise StoreCorrupt(
            f"there is no store {path}, but a damaged one is kept beside it: {left[-1].name}",
            hint=f"gptflow doctor --store {left[-1]} --repair  saves what can be read of it; "
            "to begin anew, move it to another folder",
        )


def _called(path: Path, word: str) -> list[Path]:
    """The files beside NAME.db that are called NAME.WORD*.db, in the order of their names."""
    return sorted(path.parent.glob(f"{glob.escape(path.stem)}.{word}*{glob.escape(path.suffix)}"))


def _keep(old: Path, kept: Path) -> None:
    """A second name for a file that is to lose its own."""
    with suppress(FileNotFoundError, FileExistsError):  # not there; or done before it was killed
        try:
            os.link(old, kept)
        except (FileNotFoundError, FileExistsError):
            raise
        except OSError:  # a file system without links
            old.rename(kept)


def _repaired(path: Path, stamp: str) -> Path:
    return path.with_name(f"{path.name}.repaired-{stamp}")


def _beside(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)
