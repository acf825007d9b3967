"""The door for Python: load a spec, run it. The same work as the command line's, in a call."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gptflow.errors import UsageError
from gptflow.runner.begin import Retry
from gptflow.runner.display import NoDisplay
from gptflow.runner.interrupt import Interruption
from gptflow.runner.loop import outside_of_any_loop
from gptflow.runner.prepare import prepare
from gptflow.runner.progress import choose_display
from gptflow.runner.python import Python
from gptflow.runner.runner import Runner, RunOptions
from gptflow.runner.server import ServerChoice
from gptflow.runner.summary import RunSummary
from gptflow.spec.model import Spec


def load_spec(
    path: str | Path,
    set: Mapping[str, Any] | None = None,  # noqa: A002  # as --set
    *,
    allow_python: bool = False,
    python_path: Sequence[str | Path] = (),
) -> Spec:
    """Reads a spec and checks all of it; nothing is sent.

    Args:
        path: the YAML file.
        set: values in place of the file's, by path: {"model.temperature": 0}.
        allow_python: let the spec name functions of your own, which are imported here.
        python_path: folders in which their modules are looked for too.

    Raises:
        SpecError: with every problem of the file, each with its line and column.
        DataError: the first rows of the source cannot be read.
    """
    return prepare(path, values=set, python=_python(python_path, allow=allow_python)).spec


def run(  # noqa: PLR0913  # each has a default that fits most
    spec: Spec | str | Path,
    *,
    server: ServerChoice | None = None,
    store: str | Path | None = None,
    fresh: bool = False,
    retry: Retry | None = None,
    progress: bool = False,
    allow_python: bool = False,
    python_path: Sequence[str | Path] = (),
    wait: bool = True,
) -> RunSummary:
    """Runs a spec to its end, as `gptflow run` does. Blocks; works in a notebook too.

    Args:
        spec: a spec that was loaded, or its file.
        server: who answers: ServerChoice(mock=True), ServerChoice(local=True),
            ServerChoice(config=Path("keys.json")); by default config.json or OPENAI_API_KEY.
        store: the store's file; by default .gptflow/NAME.db in the working directory.
        fresh: start over and ask everything again.
        retry: "failed" or "truncated": ask these rows again.
        progress: show the progress on stderr.
        allow_python: let the spec name functions of your own. They run as this program does.
        python_path: folders in which their modules are looked for too.
        wait: False, in batch mode: submit all that can be, fetch what is ready, and return. The
            same call later goes on; until all has come, `status` is Ending.STOPPED.

    Returns:
        The counts, the cost, the output's path; `iter_rows()` streams the rows from the store.
        A failed row is no exception: see `failed` and `failures`.

    Raises:
        GptflowError: bad spec, config or data; a store in use; an output that cannot be written.
        UsageError: `wait` is off in another mode than batch.
    """
    options = RunOptions(Path(store) if store else None, fresh=fresh, retry=retry, wait=wait)
    display = choose_display(sys.stderr) if progress else NoDisplay()

    interruption = Interruption()

    def work() -> RunSummary:
        python = _python(python_path, allow=allow_python)
        prepared = prepare(spec, server or ServerChoice(), python=python)
        if not wait and prepared.spec.parallelism.mode != "batch":
            raise UsageError(
                "wait=False is for batch mode",
                hint="leave it out, or load the spec with set={'parallelism.mode': 'batch'}",
            )
        return Runner(prepared, options, display, interruption).run()

    return outside_of_any_loop(work, interruption.interrupt_from_outside)


def _python(folders: Sequence[str | Path], *, allow: bool) -> Python:
    return Python.of(allow=allow, folders=folders, announce=logging.getLogger("gptflow").info)
