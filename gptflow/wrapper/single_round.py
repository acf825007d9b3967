"""One question for each prompt, with answers that survive a crash: single_round_multi_...

Every answer goes into its worker's file as soon as it is there. The same call goes on from these
files, with any number of workers, and puts them together at the end. What the functions promise
their callers stands at the methods of `pipeline_methods`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gptflow.errors import PromptsFailed, UsageError
from gptflow.records import Call
from gptflow.wrapper.ask_each import Failed, Round, ask_each
from gptflow.wrapper.chunks import dealt
from gptflow.wrapper.crew import ConfigPath, Crew, bot_of, worker_count
from gptflow.wrapper.job import Job
from gptflow.wrapper.main_module import leave_if_imported_by_worker
from gptflow.wrapper.parameters import json_value
from gptflow.wrapper.question import question
from gptflow.wrapper.round_file import RoundFiles
from gptflow.wrapper.round_line import Item, numbered
from gptflow.wrapper.round_lock import RoundLock, Settings

CHAT = "chat/completions"

_MOST_REASONS = 5
"""How many different reasons an error lists."""

_log = logging.getLogger("gptflow")


def single_round_multi_thread(  # noqa: PLR0913  # as the original has them
    config_path: ConfigPath = "./config.json",
    engine: str | None = None,
    threads_num: int | None = None,
    system_prompts: Iterable[Any] | str | None = None,
    prompts: Iterable[Any] | None = None,
    fout: str | os.PathLike[str] = "",
    *,
    thread_num: int | None = None,
    **kwargs: Any,
) -> list[Any]:
    """GPTWrapper.single_round_multi_thread.

    An answer counts for the same system prompt and prompt, wherever they stood, also one in `fout`
    itself. If nothing is missing, nothing is asked. Beside `fout` stays a hidden file,
    .NAME.gptflow, which says what the answers were asked with, and .NAME.rest with answers to
    prompts that this call does not have.
    """
    count = worker_count(threads_num=threads_num, thread_num=thread_num)
    crew = Crew("threads", count, config_path, bot_of(kwargs.pop("lark_hook", None)))
    return _answers(crew, _items(system_prompts, prompts), _round(engine, fout, kwargs))


def single_round_multi_process(  # noqa: PLR0913  # as the original has them
    config_path: ConfigPath = "./config.json",
    engine: str | None = None,
    processes_num: int | None = None,
    system_prompts: Iterable[Any] | str | None = None,
    prompts: Iterable[Any] | None = None,
    fout: str | os.PathLike[str] = "",
    *,
    process_num: int | None = None,
    **kwargs: Any,
) -> list[Any]:
    """GPTWrapper.single_round_multi_process."""
    leave_if_imported_by_worker()
    count = worker_count(processes_num=processes_num, process_num=process_num)
    crew = Crew("processes", count, config_path, bot_of(kwargs.pop("lark_hook", None)))
    return _answers(crew, _items(system_prompts, prompts), _round(engine, fout, kwargs))


def _items(system_prompts: Iterable[Any] | str | None, prompts: Iterable[Any] | None) -> list[Item]:
    """The questions.

    Raises:
        UsageError: the lists are none, or of different lengths, or hold what is no prompt.
    """
    if not isinstance(prompts, Iterable) or isinstance(prompts, str | bytes):
        raise UsageError(f"prompts is {prompts!r:.80}, not a list", hint="give a list of texts")
    asked = [_content(value, f"prompts[{at}]") for at, value in enumerate(prompts)]
    if system_prompts is None or isinstance(system_prompts, str):
        system_prompts = [system_prompts] * len(asked)
    systems = [
        value if value is None else _content(value, f"system_prompts[{at}]")
        for at, value in enumerate(system_prompts)
    ]
    if len(systems) != len(asked):
        raise UsageError(
            f"there are {len(systems):,} system_prompts for {len(asked):,} prompts",
            hint="give one for each prompt, [None] * len(prompts) for none, or one text for all",
        )
    return numbered(zip(systems, asked, strict=True))


def _content(value: Any, where: str) -> Any:
    """The content of a message, as JSON has it: a text, or a list of parts."""
    if not isinstance(value, str | list | tuple):
        raise UsageError(f"{where} is {value!r:.80}, not a text")
    return json_value(value, where)


def _round(engine: str | None, fout: str | os.PathLike[str], params: dict[str, Any]) -> Round:
    """How to ask. Parameters that the API does not have are a UsageError here, before all."""
    return Round(RoundFiles(fout).fout, engine, _example(engine, params).endpoint != CHAT, params)


def _example(engine: str | None, params: Mapping[str, Any]) -> Call:
    """A call as all the others are, but for its prompt."""
    rest = {name: value for name, value in params.items() if name != "timeout"}
    return question(engine, "", rest).call


def _settings(round_: Round) -> Settings:
    call = _example(round_.engine, round_.params)
    params = {name: value for name, value in call.params.items() if name != "prompt"}
    told = json.dumps([call.model, call.endpoint, params], sort_keys=True).encode()
    return Settings(call.model, hashlib.blake2b(told, digest_size=16).hexdigest())


def _answers(crew: Crew, items: Sequence[Item], round_: Round) -> list[Any]:
    """The responses to all items, asking what is missing."""
    files, settings = RoundFiles(round_.fout), _settings(round_)
    with RoundLock(files.fout) as lock:
        found = files.find(items)
        if found.answers or found.rest:
            _require_same(settings, lock.recorded(), files)
        lock.record(settings)
        if missing := [item for item in items if item.id not in found.answers]:
            failed = _ask(crew, missing, round_)
            if failed:
                raise _unfinished(failed, len(items), files.fout)
            found = files.find(items)
        elif files.is_finished(items):
            _log.warning("%s has all answers already: nothing was asked", files.fout)
            return [found.answers[item.id] for item in items]
        files.finish(items, found)
    return [found.answers[item.id] for item in items]


def _ask(crew: Crew, items: Sequence[Item], round_: Round) -> list[Failed]:
    """Has the items asked; those that have no answer, in order."""
    job = Job(
        ask_each,
        (round_,),
        title=f"single round, {round_.fout.name}",
        gives="prompts without an answer",
        keeps_replies=True,
        threads_instead="single_round_multi_thread",
    )
    return sorted(crew.run(job, dealt(items, crew.count)))


def _require_same(settings: Settings, recorded: Settings | None, files: RoundFiles) -> None:
    if recorded is None or recorded == settings:
        return
    if recorded.engine != settings.engine:
        what = f"{recorded.engine} has answered, not {settings.engine}"
    else:
        what = "they were asked with other parameters"
    raise UsageError(
        f"{files.fout} and the files beside it have answers, but {what}",
        hint=f"give another fout; or delete it, the workers' files and {files.rest.name} to ask "
        f"anew, or .{files.fout.name}.gptflow to take the answers as they are",
    )


def _unfinished(failed: Sequence[Failed], total: int, fout: Path) -> PromptsFailed:
    """The error that tells of all failures, alike ones together."""
    alike: dict[str, list[int]] = defaultdict(list)
    for one in failed:
        alike[one.reason].append(one.id)
    groups = sorted(alike.items(), key=lambda group: -len(group[1]))
    lines = [f"  {len(ids):,} x {reason} ({_ids(ids)})" for reason, ids in groups[:_MOST_REASONS]]
    if len(groups) > _MOST_REASONS:
        lines.append(f"  and {len(groups) - _MOST_REASONS:,} other reasons")
    error = PromptsFailed(
        "\n".join([f"{len(failed):,} of {total:,} prompts have no answer", *lines]),
        hint=f"the other answers are kept beside {fout}; the same call again asks only these",
    )
    error.reasons = {one.id: one.reason for one in failed}
    return error


def _ids(ids: Sequence[int]) -> str:
    shown = ", ".join(str(id_) for id_ in ids[:5])
    return f"id {shown}" if len(ids) <= 5 else f"id {shown} ..."
