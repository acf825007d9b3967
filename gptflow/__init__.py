"""gptflow: declarative pipelines of language-model work over data.

    spec = gptflow.load_spec("pipelines/label.yaml", set={"source.limit": 20})
    result = gptflow.run(spec)
    for row in result.iter_rows(): ...

The names are imported when they are first used: `import gptflow` itself loads nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as type checkers read it; typing itself would be most of this import
if TYPE_CHECKING:
    from typing import Any

    from gptflow.errors import (
        ConfigError,
        DataError,
        GptflowError,
        LarkError,
        PromptsFailed,
        RunStopped,
        SpecError,
        StoreError,
        UsageError,
        WorkerFailed,
    )
    from gptflow.notify.lark import LarkBot
    from gptflow.notify.sender import lark_sender
    from gptflow.runner.api import load_spec, run
    from gptflow.runner.server import ServerChoice
    from gptflow.runner.summary import RunSummary
    from gptflow.spec.model import Spec
    from gptflow.wrapper.gpt_wrapper import GPTWrapper

__version__ = "0.1.0"

__all__ = [
    "ConfigError",
    "DataError",
    "GPTWrapper",
    "GptflowError",
    "LarkBot",
    "LarkError",
    "PromptsFailed",
    "RunStopped",
    "RunSummary",
    "ServerChoice",
    "Spec",
    "SpecError",
    "StoreError",
    "UsageError",
    "WorkerFailed",
    "__version__",
    "lark_sender",
    "load_spec",
    "run",
]

_HOMES = {
    "GPTWrapper": "gptflow.wrapper.gpt_wrapper",
    "LarkBot": "gptflow.notify.lark",
    "RunSummary": "gptflow.runner.summary",
    "ServerChoice": "gptflow.runner.server",
    "Spec": "gptflow.spec.model",
    "lark_sender": "gptflow.notify.sender",
    "load_spec": "gptflow.runner.api",
    "run": "gptflow.runner.api",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'gptflow' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES.get(name, "gptflow.errors")), name)


def __dir__() -> list[str]:
    return __all__
