"""The watch over config.json, on a real file system."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import resource
import shutil
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gptflow.engine.config import Config, load_config
from gptflow.engine.folder_events import places_of
from gptflow.engine.watch import SETTLE_S, ConfigWatch
from gptflow.errors import ConfigError

LONG_S = 30.0
"""Longer than any machine needs; a test ends as soon as it is told."""
NEVER_S = 3600.0
"""So rarely is looked where events alone have to do."""


def text(*keys: str) -> str:
    return json.dumps({"key_list": [{"api_key": key} for key in keys]})


def put(path: Path, content: str) -> None:
    path.write_text(content)


def swap_in(path: Path, content: str) -> None:
    """As `put`, but at no moment is the file half written."""
    new = path.with_name("config.json.tmp")
    new.write_text(content)
    new.replace(path)


def remove(path: Path) -> None:
    path.unlink()


def follow(watch: ConfigWatch, change: Callable[[], None]) -> None:
    """Changes the file, and holds the loop up until the watch has seen that to its end."""
    before, ends_s = watch._told, time.monotonic() + LONG_S
    change()
    while watch._told == before:
        assert time.monotonic() < ends_s
        time.sleep(0.005)


async def begun(watch: ConfigWatch) -> None:
    async with asyncio.timeout(LONG_S):
        while watch._told is None:  # noqa: ASYNC110  # it tells nobody that it listens
            await asyncio.sleep(0.005)


class Heard:
    """What a watch has told, in order."""

    watch: ConfigWatch

    def __init__(self, path: Path) -> None:
        self.path = path
        self.all: list[Config | ConfigError] = []
        self._news = asyncio.Event()

    def hear(self, told: Config | ConfigError) -> None:
        self.all.append(told)
        self._news.set()

    async def next(self) -> str:
        """The keys of the next config, or what is wrong with it."""
        count = len(self.all)
        async with asyncio.timeout(LONG_S):
            while len(self.all) == count:
                self._news.clear()
                await self._news.wait()
        return self.words(count)

    def words(self, index: int) -> str:
        told = self.all[index]
        if isinstance(told, ConfigError):
            return told.message.replace(str(self.path), "config.json")
        return " ".join(key.api_key.reveal() for key in told.keys)


def watching(heard: Heard, **options: Any) -> ConfigWatch:
    return ConfigWatch(
        heard.path,
        load=lambda: load_config(heard.path, {}),
        on_config=heard.hear,
        on_error=heard.hear,
        **options,
    )


def watched(
    path: Path, change: Callable[[Heard], Coroutine[Any, Any, None]], **options: Any
) -> Heard:
    """What is heard while `change` happens under a watch that has begun."""

    async def run() -> Heard:
        heard = Heard(path)
        async with watching(heard, **options) as watch:
            heard.watch = watch
            await begun(watch)
            await change(heard)
        return heard

    return asyncio.run(run())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text(text("first"))
    return path


def write_in_place(path: Path) -> None:
    path.write_text(text("second"))


def rename_over(path: Path) -> None:
    swap_in(path, text("second"))


def vim(path: Path) -> None:
    """Tries the folder with a file 4913, moves the old file aside, and writes a new one."""
    path.with_name("4913").touch()
    path.with_name("4913").unlink()
    swap = path.with_name(".config.json.swp")
    swap.write_bytes(b"b0VIM 9.1")
    path.rename(path.with_name("config.json~"))
    path.write_text(text("second"))
    path.with_name("config.json~").unlink()
    swap.unlink()


def emacs(path: Path) -> None:
    """Locks by a link that leads nowhere, keeps a copy, and saves itself from time to time."""
    lock, autosave = path.with_name(".#config.json"), path.with_name("#config.json#")
    lock.symlink_to("somebody@host.1234:1")
    autosave.write_text(text("seco"))
    path.rename(path.with_name("config.json~"))
    path.write_text(text("second"))
    lock.unlink()
    autosave.unlink()


def nano(path: Path) -> None:
    """Locks by a file, and writes in place."""
    lock = path.with_name(".config.json.swp")
    lock.write_bytes(b"b0nano")
    with path.open("r+") as file:
        file.write(text("second"))
        file.truncate()
    lock.unlink()


def delete_and_make_again(path: Path) -> None:
    path.unlink()
    path.write_text(text("second"))


def same_length_and_times(path: Path) -> None:
    status = path.stat()
    path.write_text(text("fifth"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


CHANGES = [
    (write_in_place, "second"),
    (rename_over, "second"),
    (vim, "second"),
    (emacs, "second"),
    (nano, "second"),
    (delete_and_make_again, "second"),
    (same_length_and_times, "fifth"),
]
EYES = [
    pytest.param({"poll_s": NEVER_S}, id="events"),
    pytest.param({"poll_s": 0.1, "with_events": False}, id="polling"),
]


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize(("change", "keys"), CHANGES)
def test_a_change_is_told_once_however_it_is_made(
    path: Path, change: Callable[[Path], None], keys: str, eyes: dict[str, Any]
) -> None:
    async def alter(heard: Heard) -> None:
        change(path)
        assert await heard.next() == keys
        await asyncio.sleep(0.1)

    assert len(watched(path, alter, **eyes).all) == 1


@pytest.mark.parametrize("eyes", EYES)
def test_a_swap_of_links_is_told_as_kubernetes_makes_it(
    tmp_path: Path, eyes: dict[str, Any]
) -> None:
    def mount(name: str, key: str) -> None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(text(key))
        (tmp_path / "..data_tmp").symlink_to(name)
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")

    mount("..2026_01", "first")
    path = tmp_path / "config.json"
    path.symlink_to("..data/config.json")

    async def swap(heard: Heard) -> None:
        for before, after, key in [("01", "02", "second"), ("02", "03", "third")]:
            mount(f"..2026_{after}", key)
            shutil.rmtree(tmp_path / f"..2026_{before}")
            assert await heard.next() == key

    assert len(watched(path, swap, **eyes).all) == 2


def test_events_are_heard_of_a_file_behind_links_in_other_folders(tmp_path: Path) -> None:
    real = tmp_path / "secrets" / "v1" / "keys.json"
    real.parent.mkdir(parents=True)
    real.write_text(text("first"))
    (tmp_path / "current").symlink_to("secrets/v1")
    path = tmp_path / "config.json"
    path.symlink_to("current/keys.json")

    async def change(heard: Heard) -> None:
        real.write_text(text("second"))
        assert await heard.next() == "second"

    watched(path, change, poll_s=NEVER_S)


def test_the_places_of_a_file_are_all_that_it_can_be_changed_from(tmp_path: Path) -> None:
    (tmp_path / "..v1").mkdir()
    (tmp_path / "..v1" / "config.json").touch()
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "config.json").symlink_to(tmp_path / "other" / ".." / "..data" / "config.json")
    places = places_of(tmp_path / "config.json")

    assert places.names >= {"config.json", "..data"}
    assert places.folders >= {os.path.realpath(tmp_path), os.path.realpath(tmp_path / "..v1")}


def test_links_in_a_circle_have_an_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")

    assert places_of(tmp_path / "a").names == {"a", "b"}


@pytest.mark.parametrize("eyes", EYES)
def test_a_file_written_in_pieces_is_not_called_broken(path: Path, eyes: dict[str, Any]) -> None:
    times_s = [0.0]

    async def write(heard: Heard) -> None:
        whole = text("second", "third")
        with path.open("w") as file:
            for start in range(0, len(whole), 20):
                file.write(whole[start : start + 20])
                file.flush()
                times_s.append(time.monotonic())
                await asyncio.sleep(0.05)
        while not heard.all or heard.words(-1) != "second third":
            await heard.next()

    heard = watched(path, write, **eyes)
    longest_pause_s = max(after - before for before, after in itertools.pairwise(times_s[1:]))
    if longest_pause_s < 0.2:  # else the machine was too busy to write that quickly
        assert [heard.words(index) for index in range(len(heard.all))] == ["second third"]


@pytest.mark.parametrize("eyes", EYES)
def test_a_broken_file_is_told_once_and_a_good_one_ends_it(
    path: Path, eyes: dict[str, Any]
) -> None:
    async def change(heard: Heard) -> None:
        put(path, '{"key_list": [')
        assert await heard.next() == "config.json:1:15: Expecting value"
        os.utime(path)
        await asyncio.sleep(2 * SETTLE_S)
        put(path, '{"key_lost": []}')
        assert await heard.next() == "config.json: there is no 'key_list'"
        put(path, text("second"))
        assert await heard.next() == "second"

    assert len(watched(path, change, **eyes).all) == 3


def test_a_file_that_says_the_same_in_other_words_is_no_news(path: Path) -> None:
    async def change(heard: Heard) -> None:
        follow(heard.watch, lambda: swap_in(path, f"// a comment\n{text('first')}"))
        put(path, text("second"))
        assert await heard.next() == "second"

    assert len(watched(path, change, poll_s=0.1).all) == 1


def test_a_file_that_is_gone_is_told_and_waited_for(path: Path) -> None:
    async def change(heard: Heard) -> None:
        remove(path)
        assert await heard.next() == "config.json: No such file or directory"
        put(path, text("second"))
        assert await heard.next() == "second"

    watched(path, change, poll_s=NEVER_S)


def test_a_folder_may_go_and_come_again(tmp_path: Path) -> None:
    path = tmp_path / "mount" / "config.json"
    path.parent.mkdir()
    path.write_text(text("first"))

    async def change(heard: Heard) -> None:
        shutil.rmtree(path.parent)
        assert await heard.next() == "config.json: No such file or directory"
        path.parent.mkdir()
        put(path, text("second"))
        assert await heard.next() == "second"
        await asyncio.sleep(0.5)  # by now it listens to the new folder
        put(path, text("third"))
        assert await heard.next() == "third"

    watched(path, change, poll_s=0.2)


def test_a_folder_that_does_not_exist_yet_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "later" / "config.json"

    async def change(heard: Heard) -> None:
        if not heard.all:
            await heard.next()
        path.parent.mkdir()
        put(path, text("first"))
        assert await heard.next() == "first"

    heard = watched(path, change, poll_s=0.2)
    assert heard.words(0) == "config.json: No such file or directory"


def test_what_changed_before_the_watch_began_is_told(path: Path) -> None:
    async def run() -> None:
        before = load_config(path, {})
        put(path, text("second"))
        heard = Heard(path)
        async with watching(heard, current=before):
            assert await heard.next() == "second"

    asyncio.run(run())


def test_a_pipe_is_left_to_its_reader(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    async def run() -> int:
        heard = Heard(pipe)
        async with watching(heard, poll_s=0.05):  # it would wait for a writer, and not end
            await asyncio.sleep(0.3)
        return len(heard.all)

    began_s = time.monotonic()
    assert asyncio.run(run()) == 0
    assert time.monotonic() - began_s < LONG_S
    assert "gptflow config" not in {thread.name for thread in threading.enumerate()}


def test_a_folder_in_the_files_place_is_told(path: Path) -> None:
    async def change(heard: Heard) -> None:
        remove(path)
        os.mkdir(path)  # noqa: PTH102  # asynchronous code may not use Path, says another rule
        assert await heard.next() == "config.json: Is a directory"
        os.rmdir(path)  # noqa: PTH106  # as above
        put(path, text("second"))
        assert await heard.next() == "second"

    watched(path, change, poll_s=0.1)


@contextmanager
def no_more_handles() -> Iterator[None]:
    """The process may open no file until the end."""
    free = os.dup(0)
    os.close(free)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_without_a_handle_for_events_polling_does_alone(path: Path) -> None:
    async def run() -> None:
        heard = Heard(path)
        before = load_config(path, {})
        with no_more_handles():
            watch = await watching(heard, current=before, poll_s=0.1).__aenter__()
            told = await heard.next()
        assert told == "config.json: Too many open files"
        put(path, text("second"))
        assert await heard.next() == "second"
        await watch.__aexit__(None, None, None)

    import watchdog.observers  # noqa: F401  # no file can be opened to import it later

    asyncio.run(run())


def handles() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("eyes", EYES)
def test_nothing_is_left_of_a_watch(path: Path, eyes: dict[str, Any]) -> None:
    async def change(heard: Heard) -> None:
        put(path, text("second"))
        await heard.next()

    watched(path, change, **eyes)  # the first one opens what stays open, such as modules
    threads, before = threading.active_count(), handles()
    path.write_text(text("first"))
    watched(path, change, **eyes)

    assert threading.active_count() == threads
    assert handles() == before


def test_a_watch_that_has_hardly_begun_ends_at_once(path: Path) -> None:
    async def run() -> None:
        async with asyncio.timeout(LONG_S):
            for pause_s in (0.0, 0.0001, 0.001, 0.003, 0.01) * 8:
                async with watching(Heard(path), poll_s=NEVER_S, with_events=False):
                    await asyncio.sleep(pause_s)

    asyncio.run(run())
    assert "gptflow config" not in {thread.name for thread in threading.enumerate()}


def test_nothing_is_told_after_the_end(path: Path) -> None:
    async def run() -> int:
        heard = Heard(path)
        async with watching(heard, poll_s=0.01) as watch:
            await begun(watch)
            follow(watch, lambda: swap_in(path, text("second")))  # its word waits in the loop
        assert "gptflow config" not in {thread.name for thread in threading.enumerate()}
        return len(heard.all)

    assert asyncio.run(run()) == 0


def reads() -> int:
    """How often this process has read anything."""
    found = re.search(r"syscr: (\d+)", Path("/proc/self/io").read_text())
    assert found
    return int(found[1])


def test_a_watch_without_news_does_next_to_nothing(path: Path) -> None:
    async def rest(heard: Heard) -> None:
        del heard
        before = reads()
        for number in range(50):  # what others write beside it
            (path.parent / f"row-{number}").touch()
        await asyncio.sleep(1)
        assert reads() - before < 300

    watched(path, rest)
