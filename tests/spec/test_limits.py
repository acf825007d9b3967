from __future__ import annotations

import pytest

from tests.spec.conftest import Problems


@pytest.fixture
def limited(minimal: str) -> str:
    return minimal + "limits: {failed_rows: VALUE}\n"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("5 %", "write 5%"),
        ("5 percent", "write 5%"),
        ("0.05", "write 5%"),
        ("0.005", "write 0.5%"),
        ("-1", "0 has the run stop at the first row that fails"),
        ("101%", "a share is from 0% to 100%"),
        ("-1%", "a share is from 0% to 100%"),
        ('"12"', "write it without quotes: 12"),
        ("many", None),
        ("[5%]", None),
        ("true", None),
    ],
)
def test_a_wrong_number_of_failed_rows_is_told_with_what_was_meant(
    text: str, hint: str | None, limited: str, problems: Problems
) -> None:
    (problem,) = problems(limited.replace("VALUE", text))
    assert problem.message == "failed_rows takes a number of rows, or a share such as 5%"
    assert problem.hint == hint
    assert str(problem.place).endswith(":10")


@pytest.mark.parametrize("text", ["0", "12", "5%", "0%", "100%", "2.5%"])
def test_numbers_and_shares_are_taken(text: str, limited: str, problems: Problems) -> None:
    assert problems(limited.replace("VALUE", text)) == []
