"""Actors on a Ray cluster of two nodes on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest

from tests.modes.ray_nodes import Nodes, actors, wait_until
from tests.modes.test_contract import (
    CALLS,
    FAILED,
    OUTPUT,
    REPLIES,
    ROWS,
    SPEC,
    asked,
    interrupted,
)
from tests.project import Project, serving

KEY = "sk-first-1234567890"
HIDING_RAY = """
import runpy, sys
sys.modules["ray"] = None
sys.argv = ["gptflow", "run", "spec.yaml", "--mode", "ray"]
runpy.run_module("gptflow", run_name="__main__", alter_sys=True)
"""


@pytest.fixture
def contract(tmp_path: Path) -> Iterator[Project]:
    with serving(tmp_path, {"reply": REPLIES, "latency": 0.01}) as made:
        made.write("spec.yaml", SPEC)
        rows = [f'{{"number":{n},"text":"{"odd" if n % 2 else "even"}"}}\n' for n in range(ROWS)]
        made.write("rows.jsonl", "".join(rows))
        made.write_config(KEY, "sk-second-123456789")
        yield made


@pytest.fixture
def on_cluster(contract: Project, nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("RAY_ADDRESS", nodes.address)
    return contract


def test_a_run_goes_on_in_another_mode_and_leaves_no_key_with_ray(
    on_cluster: Project, nodes: Nodes
) -> None:
    interrupted(on_cluster, "ray", 300)
    wait_until(lambda: not actors(nodes))
    interrupted(on_cluster, "async", 300)
    told = on_cluster.run_json("spec.yaml", "--mode", "ray", code=1)
    assert (told["done"], told["failed"]) == (ROWS - FAILED, FAILED)
    assert (on_cluster.folder / "out.jsonl").read_text(encoding="utf-8") == OUTPUT
    assert asked(on_cluster) == CALLS
    files = [path for path in nodes.folder.rglob("*") if path.is_file()]
    assert any(path.stat().st_size for path in files)
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def test_actors_end_when_their_run_was_killed(on_cluster: Project, nodes: Nodes) -> None:
    process = on_cluster.start("run", "spec.yaml", "--mode", "ray", "-q")
    wait_until(lambda: len(on_cluster.requests) > 100)
    process.kill()
    process.communicate()
    wait_until(lambda: not actors(nodes))
    before = len(on_cluster.requests)
    time.sleep(0.5)
    assert len(on_cluster.requests) == before


def test_a_cluster_that_cannot_be_reached_is_told_before_anything_is_asked(
    contract: Project,
) -> None:
    begun_s = time.monotonic()
    said = contract.gptflow(
        *("run", "spec.yaml", "--mode", "ray", "--set", "parallelism.ray.address=127.0.0.1:1"),
        code=2,
    )
    assert time.monotonic() - begun_s < 30
    assert "the Ray cluster at 127.0.0.1:1 cannot be reached: Connection refused\nHint: " in said
    assert contract.requests == []


class Refusing(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """What a Ray cluster says to who has no token of it."""

    def service(self, _: object) -> object:
        return grpc.unary_unary_rpc_method_handler(self.refuse)

    def refuse(self, _: bytes, context: Any) -> None:
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "no such token")


def test_a_token_that_the_cluster_refuses_is_told(contract: Project) -> None:
    server = grpc.server(ThreadPoolExecutor(1), handlers=[Refusing()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    address = f"parallelism.ray.address=127.0.0.1:{port}"
    said = contract.gptflow("run", "spec.yaml", "--mode", "ray", "--set", address, code=2)
    server.stop(None).wait()
    assert f"127.0.0.1:{port} refuses the token of this machine" in said
    assert contract.requests == []


def test_a_missing_extra_is_named(contract: Project) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HIDING_RAY],
        cwd=contract.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert 'Hint: pip install "gptflow[ray]"' in done.stderr
    assert contract.requests == []


def test_workers_without_a_place_hold_nobody_up(on_cluster: Project) -> None:
    told = on_cluster.run_json("spec.yaml", "--mode", "ray", "--workers", "9", code=1)
    assert told["done"] == ROWS - FAILED


def test_nothing_is_lost_with_an_actor_or_a_node(on_cluster: Project, nodes: Nodes) -> None:
    process = on_cluster.start("run", "spec.yaml", "--mode", "ray")
    wait_until(lambda: len(on_cluster.requests) > 200)
    os.kill(actors(nodes)[0], signal.SIGKILL)
    wait_until(lambda: len(on_cluster.requests) > 700)
    nodes.kill_second()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, out + err
    assert "another one takes its place" in err
    assert "raylet" not in err + out
    assert (on_cluster.folder / "out.jsonl").read_text(encoding="utf-8") == OUTPUT
