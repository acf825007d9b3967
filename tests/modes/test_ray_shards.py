"""A folder of Parquet in, a folder of Parquet out: each file is a shard, done when it is marked."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.modes.ray_nodes import Nodes, actors, wait_until
from tests.modes.test_contract import (
    CALLS,
    FAILED,
    REPLIES,
    ROWS,
    SPEC,
    asked,
    expected,
    interrupted,
    is_failed,
)
from tests.project import Project, serving

RUN = ("spec.yaml", "--mode", "ray")
SHARDS = {"first": (0, 300), "more/first": (300, 600), "more/last": (600, ROWS)}
KEYS = ("sk-first-1234567890", "sk-second-123456789")


def write_shard(path: Path, numbers: range) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = ["odd" if number % 2 else "even" for number in numbers]
    pyarrow.parquet.write_table(pa.table({"number": list(numbers), "text": texts}), path)


@pytest.fixture
def sharded(tmp_path: Path) -> Iterator[Project]:
    with serving(tmp_path, {"reply": REPLIES, "latency": 0.01}) as made:
        made.write("spec.yaml", SPEC.replace("rows.jsonl", "data").replace("out.jsonl", "out/"))
        for name, (first, end) in SHARDS.items():
            write_shard(tmp_path / f"data/{name}.parquet", range(first, end))
        made.write_config(*KEYS)
        yield made


@pytest.fixture
def on_cluster(sharded: Project, nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("RAY_ADDRESS", nodes.address)
    return sharded


def rows(project: Project, name: str) -> list[dict[str, Any]]:
    table = pyarrow.parquet.read_table(project.folder / f"out/{name}.parquet")
    return [dict(row) for row in table.to_pylist()]


def check_outputs(project: Project) -> None:
    for name, (first, end) in SHARDS.items():
        wanted = [expected(number) for number in range(first, end) if not is_failed(number)]
        assert rows(project, name) == wanted


def test_shards_go_on_after_the_driver_and_an_actor_were_killed(
    on_cluster: Project, nodes: Nodes
) -> None:
    process = on_cluster.start("run", *RUN, "-q")
    wait_until(lambda: len(on_cluster.requests) > 100)
    process.kill()
    process.communicate()
    wait_until(lambda: not actors(nodes))
    process = on_cluster.start("run", *RUN, "--json")
    wait_until(lambda: len(on_cluster.requests) > 600)
    os.kill(actors(nodes)[0], signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, out + err
    assert "another one takes its place" in err
    told = json.loads(out)
    assert (told["rows"], told["done"], told["failed"]) == (ROWS, ROWS - FAILED, FAILED)
    check_outputs(on_cluster)
    in_flight_at_two_kills = 2 * 40
    assert CALLS <= len(on_cluster.requests) <= CALLS + in_flight_at_two_kills
    assert len(list((on_cluster.folder / "out").rglob("*.committed"))) == len(SHARDS)
    assert "nothing to do" in on_cluster.gptflow("run", *RUN, code=1)
    files = [path for path in nodes.folder.rglob("*") if path.is_file()]
    assert not [path for path in files if KEYS[0].encode() in path.read_bytes()]


def test_limits_hold_for_all_shards_and_failed_rows_are_asked_again(on_cluster: Project) -> None:
    told = on_cluster.run_json(*RUN, "--set", "limits.failed_rows=4", code=3)
    assert 4 < told["failed"] < FAILED
    assert told["calls"] == len(on_cluster.requests) < CALLS
    interrupted(on_cluster, "ray", 100)
    assert asked(on_cluster) < CALLS
    told = on_cluster.run_json(*RUN, "--retry", "failed", code=1)
    assert (told["done"], told["failed"]) == (ROWS - FAILED, FAILED)
    asked_again = 2 * FAILED
    assert CALLS < len(on_cluster.requests) <= CALLS + asked_again
    failed = (on_cluster.folder / "out/first.failed.jsonl").read_text().splitlines()
    assert [json.loads(line)["row"]["number"] for line in failed] == [100, 200]
    check_outputs(on_cluster)


def test_shards_whose_first_calls_all_fail_alike_count_no_row_as_failed(
    on_cluster: Project, tmp_path: Path
) -> None:
    with serving(tmp_path / "other", {"failures": {"vllm_context_length": "100%"}}) as refusing:
        on_cluster.write_config(*KEYS, base_url=refusing.base_url)
        told = on_cluster.run_json(*RUN, code=3)
    assert (told["done"], told["failed"], told["rows"]) == (0, 0, ROWS)


def test_what_cannot_be_sharded_is_told_before_anything_is_asked(sharded: Project) -> None:
    def told(*words: str) -> str:
        return sharded.gptflow("run", "spec.yaml", *words, code=2)

    ray = ("--mode", "ray")
    assert "'out/' is a folder, for the outputs of a run shard by shard" in told()
    assert "source.limit cannot be kept shard by shard" in told(*ray, "--set", "source.limit=5")
    assert "is read as source" in told(*ray, "--set", "output.path=data/")
    sharded.write("taken", "")
    assert "'taken/' is a file" in told(*ray, "--set", "output.path=taken/")
    sharded.write("data/z.parquet", "no Parquet")
    assert "data/z.parquet" in told(*ray)
    sharded.write("rows.jsonl", "{}\n")
    assert "rows.jsonl: shards are files of Parquet" in told(
        *ray, "--set", "source.path=rows.jsonl"
    )
    assert sharded.requests == []
