"""The process that speaks with Ray: what is left of it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from gptflow.runner.modes.ray_child import RayChild
from gptflow.runner.modes.ray_folder import PREFIX, YOUNG_S, RayFolder, sweep_folders
from gptflow.spec.parallelism import RaySpec
from tests.modes.ray_nodes import wait_until


@pytest.fixture
def scratch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def group_of(folder: Path) -> list[int]:
    """The processes of the group whose first one works in the folder."""
    leaders = {pid for pid in pids() if works_in(pid, folder) and os.getpgid(pid) == pid}
    return [pid for pid in pids() if is_alive(pid) and os.getpgid(pid) in leaders]


def pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def works_in(pid: int, folder: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == folder
    except OSError:
        return False


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_nothing_is_left_of_a_cluster_whose_process_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "local")  # Ray's word for one on this machine

    async def live() -> None:
        child = RayChild(lambda _: None, lambda _: None)
        size = await child.join(RaySpec(), 1, grows=False)
        assert size.nodes == 1
        folder, group = made()
        assert len(group) > 2
        os.kill(min(group), signal.SIGSTOP)
        await child.close(in_haste=True)
        assert not folder.exists()
        wait_until(lambda: not any(map(is_alive, group)))

    def made() -> tuple[Path, list[int]]:
        (folder,) = set(Path(tempfile.gettempdir()).glob(f"{PREFIX}*")) - before
        return folder, group_of(folder)

    before = set(Path(tempfile.gettempdir()).glob(f"{PREFIX}*"))
    asyncio.run(live())


def age(folder: Path) -> None:
    log = folder / "ray.log"
    os.utime(log, (log.stat().st_atime, log.stat().st_mtime - 2 * YOUNG_S))


def test_the_folder_of_a_killed_run_is_removed_by_a_later_one(scratch: Path) -> None:
    used, left = RayFolder(), scratch / f"{PREFIX}left"
    with (
        used.open_log() as log,
        subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=log
        ) as process,
    ):
        log.close()  # from here on only the process has it
        left.mkdir()
        (left / "ray.log").touch()
        sweep_folders(scratch)
        assert left.exists()  # it is young

        age(left)
        age(used.path)
        sweep_folders(scratch)
        assert not left.exists()
        assert used.path.exists()
        process.communicate(b"\n")
    sweep_folders(scratch)
    assert not used.path.exists()
    used.remove()
