from __future__ import annotations

import re
from pathlib import Path

import pytest

from gptflow.mock.document import read_scenario
from gptflow.mock.failure.catalogue import GROUPS

GUIDE = (Path(__file__).parents[2] / "docs" / "mock.md").read_text()


@pytest.mark.parametrize("example", re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL))
def test_each_example_of_the_guide_is_a_scenario(example: str, tmp_path: Path) -> None:
    path = tmp_path / "mock.yaml"
    path.write_text(example)
    read_scenario(path)


@pytest.mark.parametrize("group", GROUPS)
def test_the_guide_lists_each_failure_with_what_it_is(group: str) -> None:
    section = GUIDE.split(f"### {group}\n")[1].split("\n### ")[0]
    listed = re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", section, re.MULTILINE)
    assert listed == [(failure.name, failure.about) for failure in GROUPS[group]]


def test_python_of_the_guide_runs() -> None:
    example = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)[0]
    exec(compile(example, "docs/mock.md", "exec"), {})
