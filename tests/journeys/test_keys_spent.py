"""All keys spent in the middle of a run: it waits, Lark is told, a good config lets it go on."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.lark_server import TOKEN, LarkServer
from tests.project import SPEC, Project

SPENT, GOOD = "sk-0123456789abcdef-spent", "sk-0123456789abcdef-good"
ROWS = 60
NOTIFY = """
notify: {{lark: {{hook: "{hook}", base_wait_s: 1}}}}
"""


@pytest.fixture
def lark() -> Iterator[LarkServer]:
    with LarkServer() as server:
        yield server


def until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Waits for something that must come while the program runs."""
    for _ in range(400):
        if condition():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("it did not come in 20 s")


@pytest.mark.parametrize(
    "project",
    [
        {
            "latency": "20ms",
            "failures": [{"name": "insufficient_quota", "key": SPENT, "after": 20}],
        }
    ],
    indirect=True,
)
def test_a_run_waits_for_a_good_config_and_loses_nothing(
    project: Project, lark: LarkServer
) -> None:
    project.write("spec.yaml", SPEC + NOTIFY.format(hook=lark.hook))
    project.write_rows([{"id": n, "text": f"good {n}"} for n in range(ROWS)])
    project.write_config(SPENT)
    process = project.start("run", "spec.yaml")

    def told(words: str) -> list[float]:
        return [message.at_s for message in lark.received if words in message.text]

    until(lambda: len(told("waits for a usable key")) >= 4, process)
    moments = told("waits for a usable key")
    assert [round(at - moments[0]) for at in moments[:4]] == [0, 1, 2, 4]

    project.write("config.json", '{"key_list": [{"api_key": "sk-go')
    until(lambda: bool(told("the config cannot be used")), process)
    assert process.poll() is None

    project.write_config(GOOD)
    until(lambda: any(entry.key == "good" for entry in project.requests), process)

    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    assert [row["id"] for row in project.output()] == list(range(ROWS))
    answered = Counter(entry.request for entry in project.requests if entry.status == 200)
    assert len(answered) == ROWS
    assert set(answered.values()) == {1}
    assert "waiting: no API key is left" in err
    assert "going on after" in err
    assert TOKEN not in out + err
