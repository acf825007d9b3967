"""Who answers the calls of a run: the paid keys, the simulator, or a model on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from gptflow.engine.config import Config, KeyEntry, find_config
from gptflow.engine.secret import Secret
from gptflow.errors import ConfigError
from gptflow.pipeline.plan import Plan
from gptflow.runner.rehearsal import Rehearsal

if TYPE_CHECKING:
    from gptflow.mock.scenario import Scenario

MOCK = "mock"
NOBODY = "http://127.0.0.1:9"
"""For a run that asks nothing; nothing listens at this port."""

THREE_WAYS = """there are three ways to go on:
  config.json   {"key_index": 0, "key_list": [{"api_key": "..."}]}, or the variable OPENAI_API_KEY
  --local       a small model on this machine, nothing to sign up for
  --mock        a simulator: nothing is asked, nothing is paid"""


@dataclass(frozen=True, slots=True)
class ServerChoice:
    """What the user asked for on the command line; nothing of it means the paid keys."""

    config: Path | None = None
    """A config.json other than ./config.json."""
    mock: bool = False
    scenario: Path | None = None
    """The simulator's scenario file."""
    local: bool = False
    weights: Path | None = None
    """A .gguf file other than SmolLM2-135M-Instruct."""

    @property
    def name(self) -> str:
        """Sets the answers of simulators and local models apart in the store; "" for paid ones."""
        if self.mock:
            return MOCK
        if self.weights:
            return f"local:{self.weights.stem}-{_file_digest(self.weights)}"
        return "local:SmolLM2-135M-Instruct" if self.local else ""

    def find_config(self, environ: Mapping[str, str]) -> Config | None:
        """The keys, where they are what answers. Nothing is started yet, but all is checked.

        Raises:
            ConfigError: there are no keys, or they are wrong, or the scenario is.
            UsageError: the local model's weights are missing.
        """
        if self.mock:
            self.read_scenario()
            return None
        if self.local:
            from gptflow.runner.local import check_weights, find_weights

            check_weights(self.weights or find_weights())
            return None
        config = find_config(self.config, environ)
        if config is None:
            raise ConfigError("no config.json here and no OPENAI_API_KEY", hint=THREE_WAYS)
        return config

    def read_scenario(self) -> Scenario:
        """What the simulator does."""
        from gptflow.mock.document import read_scenario
        from gptflow.mock.scenario import Scenario

        return read_scenario(self.scenario) if self.scenario else Scenario()


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers, while it is open."""

    config: Config
    max_concurrency: int | None = None
    """More calls at once than this only queue up inside the server."""
    rehearsal: Rehearsal | None = None
    """What makes up the replies, where they are made up."""


def open_server(
    choice: ServerChoice, config: Config | None, plan: Plan
) -> AbstractContextManager[Server]:
    """Starts what answers the calls, where something is to be started."""
    if choice.mock:
        return _simulator(choice, plan)
    if choice.local:
        return _local_model(choice)
    return _remote(config or keyless_config(NOBODY, "none"))


@contextmanager
def _remote(config: Config) -> Iterator[Server]:
    yield Server(config)


@contextmanager
def _simulator(choice: ServerChoice, plan: Plan) -> Iterator[Server]:
    from gptflow.mock.server import MockServer

    scenario = choice.read_scenario()
    rehearsal = None if "reply" in scenario.model_fields_set else Rehearsal(plan)
    with MockServer(scenario, reply=rehearsal.reply if rehearsal else None) as mock:
        yield Server(keyless_config(mock.base_url, MOCK), rehearsal=rehearsal)


@contextmanager
def _local_model(choice: ServerChoice) -> Iterator[Server]:
    from gptflow.runner.local import LocalServer

    with LocalServer(choice.weights) as local:
        yield Server(keyless_config(local.base_url, "local"), max_concurrency=local.concurrency)


def keyless_config(base_url: str, name: str) -> Config:
    """A configuration for a server on this machine, which asks for no key."""
    return Config((KeyEntry(name, Secret("none-needed"), base_url),), origin=base_url)


def _file_digest(path: Path) -> str:
    """Tells model files of one name apart, by size and beginning: they are too large to hash."""
    try:
        with path.open("rb") as file:
            head = file.read(1 << 20)
        return blake2b(head + str(path.stat().st_size).encode(), digest_size=4).hexdigest()
    except OSError:
        return "missing"  # which `find_config` tells with a hint
