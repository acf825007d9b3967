from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gptflow.engine.events import (
    CallRetried,
    ConfigBroken,
    KeyExhausted,
    KeyRested,
    KeyRetired,
    KeysBack,
    KeysChanged,
    KeysSpent,
    KeyUsed,
    OutageBegan,
    OutageEnded,
)
from gptflow.errors import DataError, UsageError
from gptflow.records import Failure, FailureKind, RowStatus, Usage
from gptflow.runner.begin import begin
from gptflow.runner.events import CallAnswered, RowEnded, RunEvent
from gptflow.runner.notices import Notices
from gptflow.runner.summary import Ending, RunSummary
from gptflow.runner.tally import Tally
from gptflow.spec.notify import LarkSpec, Occasion
from gptflow.store.record import FailureGroup
from gptflow.store.store import Store
from tests.lark_server import HANG_S, TOKEN, LarkServer, Reply
from tests.project import serving
from tests.runner.conftest import SPEC, Folder

Telling = Callable[..., Notices]

SUMMARY = RunSummary(
    run=1,
    name="reviews",
    status=Ending.FINISHED,
    rows=1_000,
    done=998,
    failed=2,
    calls=1_021,
    reused_calls=0,
    reused_rows=0,
    prompt_tokens=400_000,
    completion_tokens=12_000,
    cost_usd=0.034,
    wall_s=12.0,
    output=Path("out/labels.jsonl"),
    store=Path(".gptflow/reviews.db"),
    failures=(
        FailureGroup("invalid", "the reply to 'a secret row' has no label", 1),
        FailureGroup("refused", "content filter", 1),
    ),
)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def lark() -> Iterator[LarkServer]:
    with LarkServer() as server:
        yield server


@pytest.fixture
def telling(lark: LarkServer) -> Telling:
    """What tells the endpoint of a run named reviews; keywords are those of the spec."""

    def make(**keys: Any) -> Notices:
        return Notices("reviews", LarkSpec.model_validate({"hook": lark.hook, **keys}))

    return make


@pytest.fixture
def begun(telling: Telling, folder: Folder, store: Store) -> Telling:
    """The same, of a run that has begun."""

    def make(**keys: Any) -> Notices:
        notices = telling(**keys)
        prepared = folder.prepare()
        notices.begin(prepared, begin(store, prepared, fresh=False, retry=None), Tally(rows=3))
        return notices

    return make


def titles(lark: LarkServer) -> list[str]:
    return [text.partition("\n")[0] for text in lark.texts]


def test_the_start_says_what_begins(begun: Telling, lark: LarkServer) -> None:
    with begun():
        pass
    (text,) = lark.texts
    assert text.startswith("reviews (simulated): started\n3 rows, 2 steps, gpt-4o-mini\non ")


def test_the_end_says_what_came_of_it_without_a_word_of_a_row(
    begun: Telling, lark: LarkServer
) -> None:
    with begun(on=["finish"]) as notices:
        notices.end(SUMMARY)
    (text,) = lark.texts
    assert text.splitlines()[:4] == [
        "reviews (simulated): finished",
        "done 998, failed 2, 12 s, 1,021 calls, 412k tokens, $0.034",
        "failed: reply not valid 1, refused 1",
        "output: out/labels.jsonl",
    ]
    assert "secret row" not in text
    assert lark.received[0].body["card"]["header"]["template"] == "orange"


@pytest.mark.parametrize(
    ("changes", "title", "words"),
    [
        ({"status": Ending.STOPPED, "message": "no usable key\nHint: add one"}, "stopped", "add"),
        ({"status": Ending.INTERRUPTED, "signal": 15}, "interrupted", "by SIGTERM"),
        ({"status": Ending.INTERRUPTED}, "interrupted", "by SIGINT"),
    ],
)
def test_a_run_that_ends_before_its_rows_says_why_and_what_is_left(
    changes: dict[str, Any], title: str, words: str, begun: Telling, lark: LarkServer
) -> None:
    with begun(on=["failure"]) as notices:
        notices.end(replace(SUMMARY, done=500, **changes))
    (text,) = lark.texts
    assert f": {title}\n" in text
    assert words in text
    assert "to do 498" in text
    assert "goes on from there" in text


def test_a_limit_that_was_reached_is_told_with_what_goes_on(
    begun: Telling, lark: LarkServer
) -> None:
    message = "limits.cost_usd is reached: $5.00 of $5.00 spent\nHint: --set limits.cost_usd=10"
    stopped = replace(SUMMARY, done=500, status=Ending.STOPPED, message=message)
    with begun(on=["failure"]) as notices:
        notices.end(replace(stopped, next_options=("--set", "limits.cost_usd=10")))
    (text,) = lark.texts
    assert text.splitlines()[:3] == ["reviews (simulated): stopped", *message.splitlines()]
    assert "the same command" not in text


def test_a_crash_is_told_and_raised_on(telling: Telling, lark: LarkServer) -> None:
    def crash(error: Exception) -> None:
        with telling():
            raise error

    with pytest.raises(DataError):
        crash(DataError('rows.jsonl:17: not valid JSON\n    {"id": "a secret row"'))
    with pytest.raises(ZeroDivisionError):
        crash(ZeroDivisionError("a secret row"))
    first, second = lark.texts
    assert first.startswith("reviews: crashed\nrows.jsonl:17: not valid JSON\n")
    assert "ZeroDivisionError" in second
    assert "secret row" not in first + second


def test_keys_and_outages_are_told_a_message_each(telling: Telling, lark: LarkServer) -> None:
    with telling() as notices:
        events: tuple[RunEvent, ...] = (
            KeyExhausted("main", "You exceeded your current quota"),
            KeyRetired("old", "Incorrect API key"),
            KeysSpent("no key is left", "mend config.json", 0.0),
            KeysSpent("no key is left", "mend config.json", 60.0),
            ConfigBroken('config.json:3:5: expected a comma\n  "api_key": "canary"'),
            KeysBack(61.0),
            OutageBegan("connection refused"),
            OutageEnded(5.0),
        )
        for count, event in enumerate(events, 1):
            notices.hear(event)
            lark.wait_for(count)  # faster ones would go as one message
    assert titles(lark) == [
        "reviews: a key is spent",
        "reviews: a key is out",
        "reviews: waits for a usable key",
        "reviews: waits for a usable key",
        "reviews: the config cannot be used",
        "reviews: goes on",
        "reviews: no server answers",
        "reviews: goes on",
    ]
    text = "\n".join(lark.texts)
    assert "key main is spent: You exceeded your current quota" in text
    assert "waiting for 1:00 min" in text
    assert "mend config.json" in text
    assert "canary" not in text


CALL = '<at user_id="all">everyone</at>'


def test_a_servers_words_call_nobody_however_they_are_sent(
    begun: Telling, lark: LarkServer
) -> None:
    lark.answer_with(Reply(9499), Reply())  # a card is refused, and goes as text
    with begun(on=["exhausted", "failure"]) as notices:
        notices.hear(KeyExhausted("main", CALL))
        lark.wait_for(2)
        for event in (KeyRetired("old", CALL), KeysSpent(CALL, CALL, 0.0), OutageBegan(CALL)):
            notices.hear(event)
        notices.end(replace(SUMMARY, status=Ending.STOPPED, message=CALL.upper()))
    text = "\n".join(lark.texts)
    assert lark.received[1].body["msg_type"] == "text"
    assert text.count('< at user_id="all">everyone') == 5 + 1
    assert "< AT USER_ID" in text
    assert "<at" not in text.lower()


def test_ten_thousand_errors_are_no_storm(begun: Telling, lark: LarkServer) -> None:
    failure = Failure(FailureKind.REJECTED, "a secret row")
    retried = CallRetried("label", "m", "main", 1, 0.1, 500, "a secret row")
    with begun() as notices:
        for position in range(10_000):
            notices.hear(RowEnded(position, RowStatus.FAILED, failure))
            notices.hear(retried)
            notices.hear(CallAnswered("label", "m", Usage(), reused=False))
        notices.hear(KeyRested("main", 20.0, "slow down"))
        notices.hear(KeyUsed("main"))
        notices.hear(KeysChanged(("new",), ()))
        notices.end(SUMMARY)
    assert [title.partition(": ")[2] for title in titles(lark)] == ["started", "finished"]


@pytest.mark.parametrize(
    ("on", "expected"),
    [
        ("start", ["started"]),
        ("finish", ["finished"]),
        ("failure", []),
        ("exhausted", ["a key is spent"]),
    ],
)
def test_only_what_is_asked_for_is_told(
    on: Occasion, expected: list[str], begun: Telling, lark: LarkServer
) -> None:
    with begun(on=[on]) as notices:
        notices.hear(KeyExhausted("main", "no money"))
        notices.end(SUMMARY)
    assert [title.partition(": ")[2] for title in titles(lark)] == expected


def test_a_run_with_nothing_to_do_tells_nothing(telling: Telling, lark: LarkServer) -> None:
    with telling() as notices:
        notices.end(replace(SUMMARY, nothing_to_do=True))
    assert lark.texts == []


def test_a_spec_that_names_nobody_tells_nobody(folder: Folder) -> None:
    with Notices.of(folder.prepare().spec) as notices:
        notices.hear(KeyExhausted("main", "no money"))
        notices.end(SUMMARY)


def test_signature_and_keyword_are_those_of_the_spec(begun: Telling, lark: LarkServer) -> None:
    with begun(secret="s", keyword="lab") as notices:
        notices.end(SUMMARY)
    for received in lark.received:
        assert "sign" in received.body
        assert received.text.startswith("[lab] reviews")


@pytest.mark.parametrize("reply", [Reply(19024), Reply(status=500), Reply(hangs=True)])
def test_a_dead_hook_holds_a_run_up_by_seconds_and_is_told_once(
    reply: Reply, lark: LarkServer
) -> None:
    lark.answer_with(reply)
    troubles: list[str] = []
    spec = LarkSpec.model_validate({"hook": lark.hook})
    began_s = time.monotonic()
    with Notices("reviews", spec, troubles.append) as notices:
        for _ in range(20):
            notices.hear(KeyExhausted("main", "no money"))
    assert time.monotonic() - began_s < HANG_S / 2
    assert len(troubles) == 1
    assert TOKEN not in "".join(troubles)


def test_a_hook_that_only_looks_like_one_is_a_persons_mistake() -> None:
    lark = LarkSpec.model_validate({"hook": "https://host:canary/x"})
    with pytest.raises(UsageError, match=r"notify\.lark\.hook: the Lark hook is not a URL") as told:
        Notices("reviews", lark)
    assert "canary" not in str(told.value)


def test_the_hook_changes_nothing_of_what_is_asked_and_is_not_in_the_store(
    folder: Folder, store: Store
) -> None:
    def begun(section: str) -> int:
        prepared = folder.prepare(f"{SPEC}{section}\n")
        return begin(store, prepared, fresh=False, retry=None).run.run_id

    runs = {
        begun(""),
        begun(f"notify: {{lark: {{hook: https://a.example/{TOKEN}, secret: {TOKEN}}}}}"),
        begun(f"notify: {{lark: {{hook: 'https://a.example/{TOKEN}', on: [start]}}}}"),
    }
    assert len(runs) == 1
    store.close()
    files = list(folder.path.glob(".gptflow/*"))
    assert files
    assert not any(TOKEN.encode() in file.read_bytes() for file in files)


@pytest.mark.parametrize("reply", [Reply(), Reply(19001), Reply(status=500)])
def test_a_whole_command_shows_the_hook_nowhere_and_ends_as_without_it(
    reply: Reply, lark: LarkServer, tmp_path: Path
) -> None:
    lark.answer_with(reply)
    replies = [{"match": "bad", "text": "who knows"}, {"match": "", "text": "positive"}]
    with serving(tmp_path, {"reply": replies}) as project:
        said = project.gptflow("run", "spec.yaml", "--set", f"notify.lark.hook={lark.hook}", code=1)
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} >= {".db", ".jsonl"}
    assert TOKEN not in said
    assert not any(TOKEN.encode() in file.read_bytes() for file in files)
    assert "--set 'notify.lark.hook=" in said  # of the next command, without the hook
    is_told = reply.code != 0 or reply.status != 200
    assert ("Lark" in said) == is_told
    if not is_told:
        assert [title.partition(": ")[2] for title in titles(lark)] == ["started", "finished"]
