"""The engine of a run: what the spec says of its calls, and who asks by it."""

from __future__ import annotations

from typing import Literal

from gptflow.engine.engine import Engine
from gptflow.runner.desk import Asker
from gptflow.runner.events import Listener
from gptflow.runner.server import Server
from gptflow.runner.tally import KeyShare
from gptflow.spec.model import Spec


def run_engine(spec: Spec, server: Server, hear: Listener) -> Engine:
    """An engine for the calls of a spec; `hear` is told of what happens to them."""
    return Engine(
        server.config,
        attempts=spec.limits.attempts,
        timeout_s=spec.limits.timeout_s,
        concurrency=concurrency_of(spec, server),
        key_wait_s=spec.limits.key_wait_s,
        outage_s=spec.limits.outage_s,
        base_wait_s=spec.notify.base_wait_s,
        on_event=hear,
    )


def concurrency_of(spec: Spec, server: Server) -> int | Literal["auto"]:
    """How many calls the spec wants in flight, of those that the server can take."""
    wanted, most = spec.parallelism.concurrency, server.max_concurrency
    if most is None:
        return wanted
    return most if wanted == "auto" else min(wanted, most)


def asker_of(engine: Engine, server: Server) -> Asker:
    """Who asks: the engine, which a rehearsal is told of beforehand where there is one."""
    return server.rehearsal.noting(engine) if server.rehearsal else engine


def key_shares(engine: Engine) -> list[KeyShare]:
    """What each key does for the run."""
    answered = engine.answered()
    return [KeyShare(state, answered.get(state.name, 0)) for state in engine.outlook()]
