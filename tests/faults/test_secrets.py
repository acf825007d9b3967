"""No API key, hook, signing secret or secret header is seen anywhere but in the request."""

from __future__ import annotations

import json
import logging
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gptflow import GPTWrapper
from gptflow.mock.failure.catalogue import CATALOGUE
from tests.lark_server import TOKEN, LarkServer
from tests.project import Project, serving

STOPS = {"ip_not_allowed", "unsupported_region", "proxy_auth_407"}
"""Failures that stop a run: each has one of its own."""
KEY, HEADER, SECRET = "sk-canary-7d1f0b2c", "canary-header-5a90", "canary-signing-31ee"
CANARIES = (KEY, HEADER, SECRET, TOKEN)
KEYS = 60
"""More than there are failures that take a key out."""

SPEC = f"""
name: secrets
source: {{path: cases.jsonl}}
model: {{name: gpt-4o-mini, temperature: 0}}
steps: [{{name: ask, prompt: "case {{{{ case }}}}.", extract: {{said: text}}}}]
parallelism: {{concurrency: 24}}
limits: {{attempts: 2, timeout_s: 1, key_wait_s: 0}}
notify: {{lark: {{hook: "${{LARK_HOOK}}", secret: {SECRET}}}}}
output: {{path: out/said.jsonl}}
"""


def scenario() -> dict[str, Any]:
    """Each failure of the catalogue, for the first attempt of the row that bears its name."""
    return {
        "reply": "echo",
        "failures": [
            {"name": name, "match": rf"^case {name}\.$", "attempts": 1, "retry_after": "50ms"}
            for name in CATALOGUE
        ],
    }


def keys(base_url: str) -> list[dict[str, Any]]:
    return [
        {
            "name": f"key-{number}",
            "api_key": f"{KEY}-{number:04}",
            "base_url": base_url,
            "headers": {"x-proxy-pass": HEADER},
        }
        for number in range(KEYS)
    ]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with serving(tmp_path, scenario()) as made:
        made.write("spec.yaml", SPEC)
        config = made.write("config.json", json.dumps({"key_list": keys(made.base_url)}))
        config.chmod(0o600)
        yield made


def run(project: Project, cases: list[str], hook: str) -> str:
    """All that a run says, with its command line as others see it."""
    project.write_rows([{"case": case} for case in cases], "cases.jsonl")
    process = project.start("run", "spec.yaml", "--debug", env={"LARK_HOOK": hook})
    title = Path(f"/proc/{process.pid}/cmdline")
    titles = [title.read_text(encoding="utf-8")]
    deadline_s = time.monotonic() + 60
    while not project.requests and time.monotonic() < deadline_s and process.poll() is None:
        time.sleep(0.005)  # until it works: it has read its keys by then
    titles.append(title.read_text(encoding="utf-8"))
    out, err = process.communicate(timeout=120)
    return "\n".join([out, err, *titles])


def holders(folder: Path, texts: dict[str, str]) -> dict[str, list[str]]:
    """Where each canary is found: in the files of a folder, and in the texts by their names."""
    files = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("config.json", "spec.yaml")
    }
    found = files | {name: text.encode() for name, text in texts.items()}
    return {
        canary: [name for name, content in found.items() if canary.encode() in content]
        for canary in CANARIES
    }


NOWHERE: dict[str, list[str]] = {canary: [] for canary in CANARIES}


def test_a_run_with_every_failure_shows_no_secret(project: Project) -> None:
    with LarkServer() as lark:
        said = run(project, sorted(set(CATALOGUE) - STOPS), lark.hook)
        told = "\n".join(lark.texts)

    assert "done " in said
    ended = (project.folder / "out/said.jsonl").read_text() + (
        project.folder / "out/said.failed.jsonl"
    ).read_text()
    assert ended.count("\n") == len(CATALOGUE) - len(STOPS)
    assert told
    shown = project.gptflow("runs") + project.gptflow("keys")
    assert holders(project.folder, {"said": said, "lark": told, "shown": shown}) == NOWHERE


@pytest.mark.parametrize("case", sorted(STOPS))
def test_a_run_that_is_stopped_shows_no_secret(project: Project, case: str) -> None:
    with LarkServer() as lark:
        said = run(project, [case, "nothing"], lark.hook)
        told = "\n".join(lark.texts)

    assert "stopped: " in said
    assert holders(project.folder, {"said": said, "lark": told}) == NOWHERE


def test_the_exceptions_and_logs_of_a_wrapper_show_no_secret(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    texts = {}
    with LarkServer() as lark:
        for case in ("context_length_exceeded", "content_policy_violation", "proxy_auth_407"):
            wrapper = GPTWrapper(str(project.folder / "config.json"), lark_hook=lark.hook)
            try:
                wrapper.completions_with_backoff(
                    model="gpt-4o-mini", messages=[{"role": "user", "content": f"case {case}."}]
                )
            except Exception as error:  # noqa: BLE001  # of which class, others test
                seen = traceback.TracebackException.from_exception(error, capture_locals=True)
                texts[case] = "".join(seen.format()) + repr(error) + str(vars(error))
            finally:
                texts["repr"] = repr(wrapper) + repr(vars(wrapper))
                wrapper.close()

    assert len(texts) == 4
    assert all(texts.values())
    assert holders(project.folder, {**texts, "log": caplog.text}) == NOWHERE
