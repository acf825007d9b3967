from __future__ import annotations

import json
import re
from pathlib import Path

from tests.wrapper.desk import desk_at

PAGE = Path(__file__).parents[2] / "docs" / "gptwrapper-pipelines.md"


def programs() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_pipeline_of_the_page_runs(tmp_path: Path) -> None:
    with desk_at(tmp_path, keys=2) as desk:
        said = desk.run(programs()[0])
    told = [{"item": item, "label": f"Label this: {item}"} for item in ("good", "bad", "fine")]
    assert said.strip() == str(told)


def test_the_single_round_of_the_page_runs(tmp_path: Path) -> None:
    with desk_at(tmp_path, keys=2) as desk:
        said = desk.run(programs()[1])
    lines = (tmp_path / "answers.jsonl").read_text().splitlines()
    assert said.strip() == str([json.loads(line)["response"] for line in lines])
    assert json.loads(lines[2])["prompt"] == "What is a stem?"
