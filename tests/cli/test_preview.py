from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.cli.conftest import Gptflow
from tests.project import SPEC


def test_the_exact_messages_of_the_first_rows_are_shown(gptflow: Gptflow) -> None:
    said = gptflow("preview", "spec.yaml", "-n", "1")
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines() == [
        "row 1",
        "  step label: gpt-4o-mini temperature=0, about 14 tokens",
        "  user",
        "    Label good as one of positive, negative.",
        "  then, in the same conversation: apology",
    ]


def test_three_rows_are_shown_unless_told_otherwise(gptflow: Gptflow, folder: Path) -> None:
    (folder / "reviews.jsonl").write_text('{"text": "good"}\n' * 9)
    assert gptflow("preview", "spec.yaml").out.count("row ") == 3
    assert gptflow("preview", "spec.yaml", "-n", "5").out.count("row ") == 5
    assert gptflow("preview", "spec.yaml", "-n", "50").out.count("row ") == 9


def test_one_row_can_be_picked(gptflow: Gptflow) -> None:
    said = gptflow("preview", "spec.yaml", "--row", "2")
    assert said.out.startswith("row 2\n")
    assert "Label bad as" in said.out
    assert "row 3" not in said.out


def test_rows_are_counted_among_those_that_where_lets_through(gptflow: Gptflow) -> None:
    said = gptflow("preview", "spec.yaml", "--row", "1", "--set", "source.where=text != 'good'")
    assert "Label bad as" in said.out


def test_a_row_that_is_not_there(gptflow: Gptflow) -> None:
    said = gptflow("preview", "spec.yaml", "--row", "9")
    assert said.code == 2
    assert said.err.startswith("there is no row 9 to ask about\nHint: rows are counted from 1, ")


def test_no_row_is_shown_that_the_limit_excludes(gptflow: Gptflow) -> None:
    limited = ("preview", "spec.yaml", "--set", "source.limit=2")
    assert gptflow(*limited).out.count("row ") == 2
    assert gptflow(*limited, "--row", "3").code == 2


def test_the_rows_of_a_sample_are_those_that_a_run_asks(gptflow: Gptflow, folder: Path) -> None:
    texts = [f"text{number:02}" for number in range(50)]
    (folder / "reviews.jsonl").write_text("".join(f'{{"text": "{text}"}}\n' for text in texts))
    sample = ("spec.yaml", "--set", "source.sample={n: 4, seed: 7}")
    shown = re.findall(r"text\d\d", gptflow("preview", *sample, "-n", "50").out)
    gptflow("run", *sample, "--mock")
    lines = (folder / "out/labels.simulated.jsonl").read_text().splitlines()
    assert shown == [json.loads(line)["text"] for line in lines]
    assert len(shown) == 4


@pytest.mark.parametrize("option", [("-n", "0"), ("--row", "0"), ("--row", "x")])
def test_a_number_of_no_row(gptflow: Gptflow, option: tuple[str, str]) -> None:
    said = gptflow("preview", "spec.yaml", *option)
    assert said.code == 2
    assert "Invalid value" in said.err


def test_a_row_that_no_step_is_for(gptflow: Gptflow) -> None:
    never = ("--set", "steps.label.when=false", "--set", "steps.apology.when=false")
    assert "no step applies: nothing is asked" in gptflow("preview", "spec.yaml", *never).out


def test_a_row_that_no_prompt_can_be_made_for(gptflow: Gptflow) -> None:
    said = gptflow("preview", "spec.yaml", "--set", "steps.label.prompt='{{ 1 / (id - 1) }}'")
    assert said.code == 0
    assert "row 1\n  cannot be asked: prompt of step 'label': division by zero" in said.out
    assert "row 2\n  step label" in said.out


def test_examples_and_system_message_are_shown_with_their_lines(
    gptflow: Gptflow, folder: Path
) -> None:
    more = (
        '    system: "Be kind.\\nBe brief."\n    examples: [{user: a, assistant: b}]\n    prompt:'
    )
    (folder / "spec.yaml").write_text(SPEC.replace("    prompt:", more, 1))
    said = gptflow("preview", "spec.yaml", "-n", "1")
    assert "  system\n    Be kind.\n    Be brief.\n  user\n    a\n  assistant\n    b\n" in said.out


def test_data_cannot_steer_the_terminal(gptflow: Gptflow, folder: Path) -> None:
    (folder / "reviews.jsonl").write_text('{"text": "\\u001b[2Jgone"}\n')
    said = gptflow("preview", "spec.yaml")
    assert "\x1b" not in said.out
    assert "\\x1b[2Jgone" in said.out


def test_previewing_needs_no_key_and_leaves_nothing_behind(gptflow: Gptflow, folder: Path) -> None:
    gptflow("preview", "spec.yaml")
    assert sorted(path.name for path in folder.iterdir()) == ["reviews.jsonl", "spec.yaml"]
