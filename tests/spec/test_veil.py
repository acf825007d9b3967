from __future__ import annotations

import pickle
import traceback
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import gptflow
from gptflow.errors import SpecError
from gptflow.spec.load import Draft, read_spec
from gptflow.spec.model import Spec

CANARY = "canary77"
RELAY = f"https://relay.example/{CANARY}"
HOOK = f"https://open.larksuite.com/open-apis/bot/v2/hook/{CANARY}"
ENVIRON = {"LARK_HOOK": HOOK, "TOKEN": CANARY, "LARK_SECRET": f"s-{CANARY}"}


def read(text: str, **arguments: Any) -> Draft:
    Path("label.yaml").write_text(text, encoding="utf-8")
    return read_spec("label.yaml", environ=ENVIRON, **arguments)


def seen(draft: Draft) -> str:
    """All of a spec that anybody is ever shown, and what the store keeps."""
    texts = [problem.render() for problem in draft.problems]
    texts += [repr(problem) for problem in draft.problems]
    if draft.spec is not None:
        origin = draft.spec.origin
        texts += [repr(draft.spec), str(draft.spec), draft.spec.model_dump_json()]
        texts += [repr(draft.spec.model_dump()), origin.as_run, repr(origin)]
    return "\n".join(texts)


def hook_of(draft: Draft) -> str:
    assert draft.problems == []
    assert draft.spec
    assert draft.spec.notify.lark
    return draft.spec.notify.lark.hook.get_secret_value()


def secret_of(draft: Draft) -> str:
    assert draft.problems == []
    assert draft.spec
    assert draft.spec.notify.lark
    assert draft.spec.notify.lark.secret
    return draft.spec.notify.lark.secret.get_secret_value()


@pytest.mark.parametrize(
    "section",
    [
        f"notify: {{lark: {{hook: {HOOK}, secret: s-{CANARY}}}}}",
        f"notify: {{lark: {{hook: '{HOOK}', secret: 's-{CANARY}'}}}}",
        f'notify: {{lark: {{hook: "{HOOK}", secret: "s-{CANARY}"}}}}',
        f"notify:\n  lark:\n    hook: {HOOK}  # the lab's\n    secret: s-{CANARY}",
        f"notify:\n  lark:\n    hook: |-\n      {HOOK}\n    secret: >-\n      s-{CANARY}",
        f"notify:\n  lark:\n    hook: &h {HOOK}\n    secret: !!str s-{CANARY}",
        f'"notify": {{"lark": {{"hook": "{HOOK}", "secret": "s-{CANARY}"}}}}',
        'notify: {lark: {hook: "${LARK_HOOK}", secret: "${LARK_SECRET}"}}',
        """notify:
  lark: {hook: "https://open.larksuite.com/open-apis/bot/v2/hook/${TOKEN}", secret: "s-${TOKEN}"}
""",
    ],
)
def test_a_hook_and_a_secret_are_read_and_not_shown(section: str, minimal: str) -> None:
    draft = read(f"{minimal}{section}\n")
    assert hook_of(draft) == HOOK
    assert secret_of(draft) == f"s-{CANARY}"
    assert CANARY not in seen(draft)


def test_the_rest_of_the_text_is_kept_to_the_letter(minimal: str) -> None:
    text = (
        f"# a comment\n{minimal}notify:\n  lark:\n"
        f"    hook: '{HOOK}'\n    secret: ab${{TOKEN}}cd\n    on: [start]\n    keyword: lab\n"
    )
    draft = read(text)
    assert draft.spec
    kept = text.replace(HOOK, "•" * len(HOOK)).replace("ab$", "••$").replace("}cd", "}••")
    assert draft.spec.origin.as_run == kept


def test_a_spec_without_secrets_is_kept_as_it_is(minimal: str) -> None:
    text = f'{minimal}notify: {{lark: {{hook: "${{LARK_HOOK}}", on: [finish]}}}}\n'
    draft = read(text)
    assert draft.spec
    assert draft.spec.origin.as_run == text


def test_a_hook_in_a_comment_or_a_prompt_is_not_stored(minimal: str) -> None:
    text = f"# was {HOOK}\n{minimal.replace('Tell a story', HOOK)}"
    draft = read(text)
    assert draft.spec
    assert CANARY not in draft.spec.origin.as_run
    assert HOOK in str(draft.spec.steps[0].prompt)


@pytest.mark.parametrize(
    "section",
    [
        f"notify: {{lark: {{hook: {HOOK}, onn: [start]}}}}",
        f"notify: {{lark: {{hok: {HOOK}}}}}",
        f"notify: {{lark: {{hook: {HOOK}, on: [started]}}}}",
        f"notify: {{lark: {{hook: {HOOK}, base_wait_s: -1, secret: [s-{CANARY}]}}}}",
        f"notify: {{lark: {{hook: http://example.com/{CANARY}}}}}",
        f"notify: {{lark: {{hook: {CANARY}}}}}",
        f"notify: {{lark: {{hook: {HOOK}, hook: {HOOK}}}}}",
        f"notify: {{lark: {HOOK}}}",
        f"notify: {HOOK}",
        f"notify: [{CANARY}]",
        f"notify: {{lark: {{secret: {CANARY}}}}}",
        'notify: {lark: "${TOKEN}"}',
        'notify: {lark: {hook: "${TOKEN}", on: "${LARK_HOOK}"}}',
        f"vars: {{hook: {HOOK}",
        f"notify: {{lark: {{hook: {HOOK}, secret: @{CANARY}}}}}",
        f"notify: {{lark: {{hook: {HOOK}, secret: '{CANARY}}}}}",
        f"notify:\n  lark:\n    secret: {CANARY}\n   hook: {HOOK}",
        f"hook: {HOOK}",
        f"lark: {{hook: {RELAY}, secret: s-{CANARY}}}",
        f"lark:\n  hook: {RELAY}\n  secret: s-{CANARY}",
        f"notfy: {{lark: {{hook: {RELAY}, secret: s-{CANARY}}}}}",
        f"notfy: {{Lark: {{hok: {CANARY}}}}}",
        f"notfy:\n  - {{webhook: {RELAY}}}",
        f"lark_hook: {RELAY}\nhook_url: {RELAY}",
        f"notify: {{lark: {{hook: '{HOOK}', on: ['{RELAY}'], keyword: ['{RELAY}']}}}}",
        f"notify: {{lark: {{'{RELAY}': x}}}}",
        f"notify: {{'{RELAY}': {{}}}}",
        f"? {RELAY}\n: notify",
        f"lark: {CANARY}",
        f"# once https://hooks.example.com/{CANARY}\n# secret: s-{CANARY}\nnotfy: 1",
    ],
)
def test_a_mistake_is_told_without_them(section: str, minimal: str) -> None:
    draft = read(f"{minimal}{section}\n")
    assert draft.problems
    assert CANARY not in seen(draft)


@pytest.mark.parametrize(
    "section",
    [
        f"notify: {{lark: {{hook: {HOOK}, secret: a, secret: 's,{CANARY}'}}}}",
        f"notify:\n  lark:\n    hook: {HOOK}\n    secret: a\n    secret: s,{CANARY}",
        f"notify: {{}}\nnotify: {{lark: {{hook: {RELAY}, secret: {CANARY}}}}}",
        f'notify: {{lark: {{hook: {HOOK}}}}}\n"lark": 1\n"lark": {{"hook": "{RELAY}"}}',
    ],
)
def test_what_stands_there_a_second_time_is_not_shown(section: str, minimal: str) -> None:
    problems = [problem.render() for problem in read(f"{minimal}{section}\n").problems]
    assert "a second time" in "".join(problems)
    assert CANARY not in "".join(problems)


@pytest.mark.parametrize("comment", [f"https://hooks.example.com/x/{CANARY}", f"secret: {CANARY}"])
def test_what_a_comment_has_of_them_is_not_stored(comment: str, minimal: str) -> None:
    draft = read(f"{minimal}# old: {comment}\n# see https://a.example/webhooks\n")
    assert draft.problems == []
    assert CANARY not in seen(draft)
    assert "# see https://a.example/webhooks\n" in seen(draft)


def test_a_field_of_that_name_is_seen(minimal: str) -> None:
    text = (
        minimal.replace("Tell a story", "Tell a secret") + "    extract: {secret: {regex: a.c}}\n"
    )
    draft = read(text)
    assert draft.problems == []
    assert draft.spec
    assert draft.spec.origin.as_run == text


def test_a_mistake_beside_them_is_still_seen(minimal: str) -> None:
    line = 'notify: {lark: {hook: "${LARK_HOOK}", onn: [start]}}'
    (problem,) = read(f"{minimal}{line}\n").problems
    assert problem.place.text == line.replace("start", "•" * 5)


def test_a_number_as_secret_is_told_without_it(minimal: str) -> None:
    draft = read(f"{minimal}notify: {{lark: {{hook: {HOOK}, secret: 4711081512}}}}\n")
    assert "expected text, found" in draft.problems[0].message
    assert "4711081512" not in seen(draft)


@pytest.mark.parametrize(
    "override",
    [
        f"notify.lark.hook={HOOK}",
        f"notify.lark.secret=s-{CANARY}",
        f"notify.lark.secret='s-{CANARY}'",
        f"notify.lark={{hook: {HOOK}, secret: s-{CANARY}}}",
        f"notify={{lark: {{hook: {HOOK}}}}}",
        f"notify={{lark: {{hook: {HOOK}, onn: 3}}}}",
        f"notify.lark.hok={CANARY}",
        f"notify.lark.secret=@{CANARY}",
        f"notify.lark.secret=[{CANARY}",
        f"notify.lark.secret.deeper={CANARY}",
        f"lark.hook={RELAY}",
        f"lark={{hook: {RELAY}}}",
        f"notfy={{lark: {{hook: {RELAY}, secret: {CANARY}}}}}",
        f"notfy.lark.hook={RELAY}",
        f" notify.lark={RELAY}",
        f"notify.lark.hook :{RELAY}",
        f"notify.lark.hook:{RELAY}",
        f"notify.lark.secret: {CANARY}",
        f"notify.lark.hook:{RELAY}?a={CANARY}",
        f"notify.lark.on=[{RELAY}]",
    ],
)
def test_what_set_says_is_not_shown_either(override: str, minimal: str) -> None:
    text = f'{minimal}notify: {{lark: {{hook: "${{LARK_HOOK}}", secret: ""}}}}\n'
    assert CANARY not in seen(read(text, overrides=[override]))


@pytest.mark.parametrize(
    "override",
    [f"steps.0.lark.hook={RELAY}", f"notify={{lark: {{secret: a, secret: {CANARY}}}}}"],
)
def test_what_set_says_in_vain_is_told_without_it(override: str, minimal: str) -> None:
    problems = read(minimal, overrides=[override]).problems
    assert problems
    assert CANARY not in "".join(problem.render() for problem in problems)


def test_what_set_says_is_what_counts(minimal: str) -> None:
    text = f'{minimal}notify: {{lark: {{hook: "${{LARK_HOOK}}"}}}}\n'
    draft = read(
        text,
        overrides=["notify.lark.hook=https://a.example/1", "notify.lark.hook=https://a.example/2"],
        values={"notify.lark.secret": "from python"},
    )
    assert hook_of(draft) == "https://a.example/2"
    assert secret_of(draft) == "from python"
    assert "from python" not in seen(draft)
    assert "a.example" not in seen(draft)


def test_a_place_is_the_same_with_and_without_the_veil(minimal: str) -> None:
    text = f"{minimal}notify: {{lark: {{hook: '{HOOK}', secret: 'it''s', onn: 1}}}}\n"
    (problem,) = read(text).problems
    assert problem.message == "unknown key 'onn'"
    line = text.splitlines()[-1]
    assert problem.place.column == line.index("onn") + 1
    assert len(problem.place.text) == len(line)


def test_an_error_of_python_does_not_show_them_either(minimal: str) -> None:
    Path("label.yaml").write_text(f"{minimal}notify: {{lark: {{hook: {CANARY}}}}}\n")
    with pytest.raises(SpecError) as told:
        gptflow.load_spec("label.yaml")
    assert CANARY not in "".join(traceback.format_exception(told.value))
    with pytest.raises(ValidationError) as raised:
        Spec.model_validate({"notify": {"lark": {"hook": CANARY, "secret": 3}}})
    assert CANARY not in str(raised.value)


def test_a_spec_travels_to_workers_with_its_hook(minimal: str) -> None:
    draft = read(f"{minimal}notify: {{lark: {{hook: {HOOK}}}}}\n")
    other = pickle.loads(pickle.dumps(draft.spec))
    assert other.notify.lark.hook.get_secret_value() == HOOK


texts = st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), max_size=30)
styles = st.sampled_from(["{}", "'{}'", '"{}"', "|-\n      {}", ">-\n      {}"])


@given(before=texts, after=texts, style=styles)
@example(before="!", after="", style="{}")  # a tag in YAML, with nothing behind it
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
def test_no_secret_is_shown_whatever_is_in_it(
    before: str, after: str, style: str, minimal: str
) -> None:
    assume("#" not in before)  # what stands in a comment is no secret that anybody could know
    secret = style.format(f"{before}{CANARY}{after}")
    section = f"    hook: https://a.example/x\n    secret: {secret}\n    on: [start]\n"
    draft = read(f"{minimal}notify:\n  lark:\n{section}")
    assert CANARY not in seen(draft)
    if not draft.problems:
        assert CANARY in secret_of(draft)
