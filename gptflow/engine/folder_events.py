"""What the operating system tells of the folders that a file can be changed from."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from watchdog.events import FileSystemEvent

_MOST_STEPS = 40
"""As many links as Linux itself follows."""


class Places(NamedTuple):
    """Where something has to happen for the content of a file to become another."""

    folders: frozenset[str]
    """Real paths of the folders that hold the file, or a link on the way to it."""
    names: frozenset[str]
    """What the file and those links are called."""


def places_of(path: Path) -> Places:
    """The places on the way to a file, as far as they exist.

    Kubernetes mounts config.json as a link to ..data/config.json, and swaps the link ..data.
    """
    folders: set[str] = set()
    names: set[str] = set()
    with suppress(OSError):  # a link is replaced while it is read, or may not be read
        for folder, name in islice(_steps(path), _MOST_STEPS):
            folders.add(os.path.realpath(folder))
            names.add(name)
    return Places(frozenset(folders), frozenset(names))


def _steps(path: Path) -> Iterator[tuple[Path, str]]:
    """Each link on the way, and the file at its end, with the folder that it is in."""
    parts = [*reversed(path.absolute().parts)]
    here = Path(parts.pop())
    while parts:
        part = parts.pop()
        at = here / part
        is_link = at.is_symlink()
        if is_link or not parts:
            yield here, part
        if not is_link:
            here = here.parent if part == ".." else at
            continue
        target = at.readlink()
        parts += reversed(target.parts)
        if target.is_absolute():
            here = Path(parts.pop())


class FolderEvents:
    """Calls `wake` when something of these names happens in these folders.

    Only a hint: events get lost, and on many mounts (NFS, some of containers) none ever come. Used
    by one thread; `wake` is called from threads of watchdog's.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._observer: Any = None
        self._cannot = False
        self._names: frozenset[str] = frozenset()
        self._watched: dict[str, tuple[object, Any]] = {}
        """The watch of each folder, with what the folder was when it began."""

    def follow(self, places: Places) -> None:
        """Listens in these places and no others. Where that cannot be, it stays silent."""
        self._names = places.names
        wanted = {folder: _identity(folder) for folder in places.folders}
        for folder, (identity, watch) in list(self._watched.items()):
            if wanted.get(folder) != identity or not self._is_alive(watch):
                del self._watched[folder]
                with suppress(OSError, KeyError):
                    self._observer.unschedule(watch)
        for folder, identity in wanted.items():
            if identity is not None and folder not in self._watched and self._is_listening():
                with suppress(OSError, RuntimeError):  # a limit; or the folder has just gone
                    self._watched[folder] = identity, self._schedule(folder)

    def close(self) -> None:
        """Ends all threads and gives back all handles."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
            self._observer = None

    def dispatch(self, event: FileSystemEvent) -> None:
        """The hook that watchdog calls for each event."""
        changed = {Path(os.fsdecode(path)).name for path in (event.src_path, event.dest_path)}
        if not self._names.isdisjoint(changed):
            self._wake()

    def _is_listening(self) -> bool:
        """Whether watchdog runs. If it cannot once, it is not asked again: it may leak a handle."""
        if self._observer is None and not self._cannot:
            try:
                self._observer = _started_observer()
            except (OSError, RuntimeError):  # no handle or no thread is left to be had
                self._cannot = True
        return self._observer is not None

    def _schedule(self, folder: str) -> Any:
        from watchdog import events

        # Not "opened" and "read": our own look at the file would wake us again, for ever.
        kinds: list[type[FileSystemEvent]] = [
            events.FileClosedEvent,
            events.FileCreatedEvent,
            events.FileDeletedEvent,
            events.FileMovedEvent,
        ]
        # Linux tells when a written file is closed. Without "modified" a log that grows beside
        # the file wakes no thread of ours; other systems have no other word for a change.
        if sys.platform != "linux":
            kinds.append(events.FileModifiedEvent)
        return self._observer.schedule(self, folder, event_filter=kinds)

    def _is_alive(self, watch: Any) -> bool:
        """Whether events still come: they end with the folder, also if it is made again."""
        emitters = self._observer.emitters
        return any(emitter.watch is watch and emitter.is_alive() for emitter in emitters)


def _started_observer() -> Any:
    from watchdog.observers import Observer

    # Its complaints about a race at its end would go to the terminal.
    logging.getLogger("watchdog").addHandler(logging.NullHandler())
    observer = Observer()
    try:
        observer.start()
    except BaseException:
        observer.stop()
        raise
    return observer


def _identity(folder: str) -> object:
    """What tells a folder from another of its name; None if there is none."""
    try:
        status = Path(folder).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
