"""SIGKILL at every step of a batch: what is with the provider is found again, never sent twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gptflow.cli.main import main
from tests.faults.crashes import CALLS, DONE, Scene, staged
from tests.runner.batch.conftest import lines_of

COMMAND = (
    *("run", "spec.yaml", "--quiet", "--mode", "batch"),
    *("--set", "parallelism.batch.requests=15"),
    *("--set", "limits.timeout_s=5"),  # a batch of which nothing is known is looked for that long
)
CHUNKS = [15, 15, 10]
"""The batches of 40 labels; the apologies follow as their labels come."""
API, BOOK = "gptflow.engine.batch_api", "gptflow.store.batches"


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with staged(tmp_path, batch={"latency": "100ms"}) as made:
        yield made


def finish(scene: Scene, unused_uploads: int = 0) -> None:
    with pytest.raises(SystemExit) as ended:
        main(COMMAND)
    assert ended.value.code == 1  # one row fails
    scene.look()
    assert scene.rows() == DONE
    submitted = lines_of(scene.requests, "/v1/batches")
    assert submitted[:3] == CHUNKS
    assert sum(submitted) == CALLS
    assert len(lines_of(scene.requests, "/v1/files")) == len(submitted) + unused_uploads
    assert not list(scene.folder.glob(".gptflow/*.batches/*"))


def test_a_run_killed_on_the_way_to_the_provider_makes_each_batch_once(scene: Scene) -> None:
    scene.kill_at(f"before {API}:_text", *COMMAND)  # the upload came back, and was not noted
    scene.kill_at(f"before {API}:_state #2", *COMMAND)  # nor was the second batch
    finish(scene, unused_uploads=1)


def test_a_run_killed_on_the_way_back_stores_each_reply_once(scene: Scene) -> None:
    scene.kill_at(f"before {API}:BatchApi.look #2", *COMMAND)
    scene.kill_at("before gptflow.engine.batch_line:read_line #20", *COMMAND)
    scene.kill_at(f"before {BOOK}:_end #2", *COMMAND)  # all is stored, and its end is not
    finish(scene)
