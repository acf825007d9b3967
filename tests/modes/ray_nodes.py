"""A Ray cluster of two nodes on this machine, for the tests."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

NODES = Path(__file__).parents[2] / "benchmarks/ray_nodes.py"


class Nodes:
    """The cluster's program."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self.address, folder = process.stdout.readline().split()
        self.folder = Path(folder)

    def kill_second(self) -> None:
        print("kill", file=self._process.stdin, flush=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "killed\n"


@contextmanager
def two_nodes() -> Iterator[Nodes]:
    """The cluster, while it is open."""
    process = subprocess.Popen(
        [sys.executable, NODES],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    with process:
        yield Nodes(process)
        assert process.stdin is not None
        process.stdin.close()


def actors(nodes: Nodes) -> list[int]:
    """The processes of actors on the cluster: children of its raylets."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if not (folder / "cmdline").read_bytes().startswith(b"ray::Actor"):
                continue
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            raylet = Path("/proc", parent, "cmdline").read_bytes()
        except OSError:
            continue
        if str(nodes.folder).encode() in raylet:
            found.append(int(folder.name))
    return found


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)
