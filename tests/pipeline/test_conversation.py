from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gptflow.errors import RowFailed
from gptflow.pipeline.compile import compile_plan
from gptflow.pipeline.conversation import converse
from gptflow.pipeline.plan import Plan
from gptflow.records import Call, Failure, FailureKind, Fields, Reply, Row, Usage
from tests.project import loaded

LABEL = """
  - name: label
    prompt: "Label {{ text }}."
    extract: {label: {choice: [good, bad]}}
"""
APOLOGY = """
  - name: apology
    when: label == 'bad'
    prompt: "Apologise for {{ text }}, which is {{ label }}."
    extract: {apology: text}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def plan(steps: str, head: str = "model: {name: m, temperature: 0}") -> Plan:
    Path("spec.yaml").write_text(f"name: x\nsource: {{range: 1}}\n{head}\nsteps:{steps}")
    return compile_plan(loaded("spec.yaml"), columns=None)


def row(key: bytes = b"k" * 16, **columns: Any) -> Row:
    return Row(0, 0, key, 0, b"{}", {"text": "it", **columns})


def reply(text: str, finish_reason: str = "stop") -> Reply:
    return Reply(text, finish_reason, Usage(), "m", b"")


def talk(steps: Plan, *replies: str | Reply, about: Row | None = None) -> tuple[list[Call], Fields]:
    """Drives a row's conversation with these replies: the calls that were asked, and the fields."""
    conversation = converse(steps, about or row())
    calls = []
    waiting = iter(replies)
    try:
        call = next(conversation)
        while True:
            assert isinstance(call, Call)  # no step here is a function
            calls.append(call)
            answer = next(waiting)
            call = conversation.send(reply(answer) if isinstance(answer, str) else answer)
    except StopIteration as end:
        assert next(waiting, None) is None, "a reply was left over"
        return calls, end.value


def failure(steps: Plan, *replies: str | Reply, about: Row | None = None) -> Failure:
    with pytest.raises(RowFailed) as caught:
        talk(steps, *replies, about=about)
    return caught.value.failure


def said(call: Call) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in call.messages]


def test_one_step_asks_once_and_gives_its_fields() -> None:
    (call,), fields = talk(plan(LABEL), "It is good.")
    assert said(call) == [("user", "Label it.")]
    assert (call.step, call.model, call.params) == ("label", "m", {"temperature": 0})
    assert fields == {"label": "good"}


def test_a_second_step_sees_all_turns_before_it() -> None:
    calls, fields = talk(plan(LABEL + APOLOGY), "bad", "Sorry.")
    assert said(calls[1]) == [
        ("user", "Label it."),
        ("assistant", "bad"),
        ("user", "Apologise for it, which is bad."),
    ]
    assert fields == {"label": "bad", "apology": "Sorry."}


def test_a_call_keeps_its_messages_when_the_conversation_goes_on() -> None:
    calls, _ = talk(plan(LABEL + APOLOGY), "bad", "Sorry.")
    assert said(calls[0]) == [("user", "Label it.")]


def test_a_step_whose_when_is_false_is_not_asked_and_its_fields_are_null() -> None:
    calls, fields = talk(plan(LABEL + APOLOGY), "good")
    assert len(calls) == 1
    assert fields == {"label": "good", "apology": None}


def test_a_row_that_no_step_is_for_asks_nothing() -> None:
    assert talk(plan(LABEL.replace("prompt", "when: false\n    prompt"))) == ([], {"label": None})


def test_a_step_that_was_left_out_leaves_no_turn_behind() -> None:
    last = "\n  - {name: last, prompt: 'And now?', extract: {last: text}}\n"
    calls, _ = talk(plan(LABEL + APOLOGY + last), "good", "Bye.")
    assert said(calls[1]) == [("user", "Label it."), ("assistant", "good"), ("user", "And now?")]


def test_system_then_examples_then_prompt() -> None:
    steps = """
  - name: label
    prompt: "Label {{ text }}."
    system: "Be {{ vars.tone }}."
    examples:
      - {user: "Label fine.", assistant: good}
      - {user: "Label poor.", assistant: bad}
"""
    (call,), _ = talk(plan(steps, "vars: {tone: kind}\nmodel: {name: m}"), "good")
    assert [role for role, _ in said(call)] == [
        "system", "user", "assistant", "user", "assistant", "user",
    ]  # fmt: skip
    assert said(call)[0] == ("system", "Be kind.")
    assert said(call)[3:] == [
        ("user", "Label poor."), ("assistant", "bad"), ("user", "Label it."),
    ]  # fmt: skip


def test_the_system_message_of_a_later_step_stands_where_it_is_added() -> None:
    later = "\n  - {name: later, system: 'Now be brief.', prompt: Why?}\n"
    calls, _ = talk(plan(LABEL + later), "good", "Because.")
    assert [role for role, _ in said(calls[1])] == ["user", "assistant", "system", "user"]


def test_a_step_without_extractors_adds_a_turn_and_no_field() -> None:
    think = "\n  - {name: think, prompt: Think.}\n"
    calls, fields = talk(plan(think + LABEL), "Hm.", "good")
    assert said(calls[1])[:2] == [("user", "Think."), ("assistant", "Hm.")]
    assert fields == {"label": "good"}


def test_fields_come_in_the_order_of_the_spec() -> None:
    steps = """
  - {name: one, prompt: x, when: 'false', extract: {z: text, y: text}}
  - {name: two, prompt: x, extract: {b: {json: b}, a: {json: a}}}
"""
    _, fields = talk(plan(steps), '{"a": 1, "b": 2}')
    assert list(fields.items()) == [("z", None), ("y", None), ("b", 2), ("a", 1)]


# ------------------------------------------------------------------ names


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ row.text }} {{ row['odd name'] }}", "it 7"),
        ("{{ vars.tone }} {{ tone }}", "kind kind"),
        ("{{ steps.label.reply }}", "It is good!"),
        ("{{ steps.label.fields.label }} {{ label }}", "good good"),
        ("{{ steps.skipped.reply is none }} {{ steps.skipped.fields.extra is none }}", "True True"),
        ("{{ extra is none }}", "True"),
        ("{{ row.items }}", "mine"),
    ],
)
def test_a_prompt_sees_columns_vars_and_earlier_steps(template: str, expected: str) -> None:
    skipped = "\n  - {name: skipped, prompt: x, when: 'false', extract: {extra: text}}\n"
    last = f'\n  - name: last\n    prompt: "{template}"\n'
    head = "vars: {tone: kind}\nmodel: {name: m}"
    odd: dict[str, Any] = {"odd name": 7, "items": "mine"}
    calls, _ = talk(plan(LABEL + skipped + last, head), "It is good!", "x", about=row(**odd))
    assert said(calls[1])[-1] == ("user", expected)


def test_what_a_row_says_is_never_a_template() -> None:
    (call,), _ = talk(plan(LABEL), "good", about=row(text="{{ 7 * 7 }}"))
    assert said(call) == [("user", "Label {{ 7 * 7 }}.")]


def test_what_a_model_says_is_never_a_template() -> None:
    echo = "\n  - {name: a, prompt: x}\n  - {name: b, prompt: '{{ steps.a.reply }}'}\n"
    calls, _ = talk(plan(echo), "{{ 7 * 7 }}", "y")
    assert said(calls[1])[-1] == ("user", "{{ 7 * 7 }}")


@pytest.mark.parametrize(
    ("steps", "what"),
    [
        (LABEL.replace("{{ text }}", "{{ text.a.b }}"), "prompt"),
        (LABEL.replace("{{ text }}", "{{ text + 1 }}"), "prompt"),
        (LABEL.replace("{{ text }}", "{{ 1 / count }}"), "prompt"),
        (LABEL.replace("{{ text }}", "{{ nothing }}"), "prompt"),
        (LABEL.replace("prompt", "system: '{{ nothing }}'\n    prompt"), "system"),
        (
            LABEL.replace(
                "prompt", "examples: [{user: '{{ nothing }}', assistant: x}]\n    prompt"
            ),
            "example 1",
        ),
        (LABEL.replace("prompt", "when: nothing > 3\n    prompt"), "when"),
        (LABEL.replace("prompt", "when: text > 3\n    prompt"), "when"),
    ],
)
def test_a_template_that_fits_no_row_fails_the_row(steps: str, what: str) -> None:
    failed = failure(plan(steps), about=row(count=0))
    assert (failed.kind, failed.step) == (FailureKind.TEMPLATE, "label")
    assert failed.message.startswith(f"{what} of step 'label': ")


def test_a_template_that_includes_itself_fails_the_row() -> None:
    Path("again.j2").write_text("{% include 'again.j2' %}")
    steps = "\n  - {name: label, prompt: {file: again.j2}}\n"
    assert failure(plan(steps)).kind is FailureKind.TEMPLATE


# ------------------------------------------------------------------ replies that are not valid


def reasking(times: int, then: str = "fail") -> Plan:
    on_invalid = f"on_invalid: {{reask: {times}, then: {then}}}"
    return plan(LABEL.replace("prompt", f"{on_invalid}\n    prompt"))


def test_a_reply_that_is_not_valid_fails_the_row_with_the_reply() -> None:
    failed = failure(plan(LABEL), "Hm.")
    assert failed == Failure(
        FailureKind.INVALID,
        'the reply is "Hm.", expected one of good, bad',
        step="label",
        attempts=1,
        replies=1,
        reply="Hm.",
    )


def test_the_complaint_about_a_reply_cannot_steer_a_terminal() -> None:
    failed = failure(plan(LABEL), "\x1b[2J\x9bHm.\r\n")
    assert failed.message == 'the reply is "[2J Hm.", expected one of good, bad'


def test_a_reask_goes_on_in_the_conversation_and_says_what_was_wrong() -> None:
    calls, fields = talk(reasking(2), "Hm.", "It is good.")
    complaint = (
        'Your reply cannot be used: the reply is "Hm.", expected one of good, bad.\n'
        "Please answer again with one of good, bad."
    )
    assert said(calls[1]) == [("user", "Label it."), ("assistant", "Hm."), ("user", complaint)]
    assert fields == {"label": "good"}


def test_after_the_last_reask_the_row_fails() -> None:
    failed = failure(reasking(2), "Hm.", "Hmm.", "Hmmm.")
    assert (failed.attempts, failed.reply) == (3, "Hmmm.")


def test_after_the_last_reask_the_row_may_be_kept_with_null_fields() -> None:
    calls, fields = talk(reasking(1, "keep"), "Hm.", "Hmm.")
    assert len(calls) == 2
    assert fields == {"label": None}


def test_a_row_that_is_kept_goes_on_to_its_next_step() -> None:
    steps = LABEL.replace("prompt", "on_invalid: {then: keep}\n    prompt")
    last = (
        "\n  - {name: last, prompt: '{{ steps.label.reply }} {{ label }}', extract: {last: text}}\n"
    )
    calls, fields = talk(plan(steps + last), "Hm.", "Bye.")
    assert said(calls[1])[-1] == ("user", "Hm. None")
    assert fields == {"label": None, "last": "Bye."}


def test_the_complaint_about_a_reply_that_was_cut_off_says_so() -> None:
    failed = failure(plan(LABEL), reply("It is", "length"))
    assert failed.message == (
        'the reply is "It is", expected one of good, bad; the reply was cut off'
    )


def test_a_reply_that_was_cut_off_may_still_be_valid() -> None:
    _, fields = talk(plan(LABEL), reply("good, since", "length"))
    assert fields == {"label": "good"}


def test_a_reask_is_seen_by_the_next_step() -> None:
    steps = LABEL.replace("prompt", "on_invalid: {reask: 1}\n    prompt") + APOLOGY
    calls, _ = talk(plan(steps), "Hm.", "bad", "Sorry.")
    assert [text for _, text in said(calls[2])][1:4:2] == ["Hm.", "bad"]


# ------------------------------------------------------------------ call keys


def test_the_same_question_has_the_same_key_for_every_row() -> None:
    steps = plan(LABEL)
    (first,), _ = talk(steps, "good", about=row(b"a" * 16))
    (second,), _ = talk(steps, "good", about=row(b"b" * 16))
    assert first.key == second.key


def test_another_answer_makes_another_next_question() -> None:
    always = plan(LABEL + APOLOGY.replace("    when: label == 'bad'\n", ""))
    ways = [talk(always, first, "Sorry.")[0][1].key for first in ("good", "It is good.")]
    assert ways[0] != ways[1]


def test_a_question_that_may_be_answered_in_many_ways_has_a_key_for_each_row() -> None:
    steps = plan(LABEL, "model: {name: m}")
    (first,), _ = talk(steps, "good", about=row(b"a" * 16))
    (second,), _ = talk(steps, "good", about=row(b"b" * 16))
    assert first.key != second.key
    assert talk(steps, "good", about=row(b"a" * 16))[0][0].key == first.key
