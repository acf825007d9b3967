"""A Ray cluster of two nodes on this machine, for tests and benchmarks.

    python benchmarks/ray_nodes.py

Prints its address and its folder. Each line on its input kills the raylet of the second node, with
all that lives there; the end of its input ends the cluster.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MEMORY = 80 << 20


class Nodes:
    """The running program."""

    def __init__(self, process: subprocess.Popen[str], address: str, folder: str) -> None:
        self._process = process
        self.address = address
        self.folder = Path(folder)
        """What Ray writes there: its logs, among other things."""

    def kill_second(self) -> None:
        """Kills the second node with SIGKILL."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print("kill", file=self._process.stdin, flush=True)
        assert self._process.stdout.readline() == "killed\n"


@contextmanager
def two_nodes() -> Iterator[Nodes]:
    """The program, from the moment in which its cluster can be joined."""
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            words = process.stdout.readline().split()
            if not words:
                log.seek(0)
                sys.exit(f"Ray did not start: {log.read()}")
            yield Nodes(process, *words)
        finally:
            process.stdin.close()
            process.wait(timeout=60)
            process.stdout.close()


def main() -> None:
    """Starts the nodes, and does as it is told."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory(prefix="ray-nodes-", ignore_cleanup_errors=True) as folder:
        options: dict[str, Any] = {"object_store_memory": MEMORY, "include_dashboard": False}
        cluster: Any = Cluster(
            initialize_head=True,
            head_node_args=options | {"num_cpus": 2, "temp_dir": folder},
        )
        second = cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
        print(cluster.address, folder, flush=True)
        for _ in sys.stdin:
            second.kill_raylet()
            print("killed", flush=True)
        cluster.shutdown()


if __name__ == "__main__":
    main()
