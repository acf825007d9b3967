"""Keys that cannot be used for batches, batches that are gone, and ways to leave and come back."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

import pytest

import gptflow
from gptflow.runner.summary import Ending
from tests.runner.batch.conftest import ROWS, SPEC, Desk, done

NUMBERS = range(ROWS)
AT_ONCE = ("--set", "parallelism.batch.missing_s=0")
"""No patience with batches that are not found."""
ONE_STEP = (
    "--set",
    "steps=[{name: label, prompt: 'Label row {{ number }}.', extract: {label: text}}]",
)
PRICED = ("--set", "limits.prices={gpt-4o-mini: {input: 1000, output: 2000}}")


def test_a_key_without_access_is_told_before_a_row_is_asked(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.serve(batch={"access": False})
    assert desk.run() == 3
    assert not desk.uploaded()
    told = capsys.readouterr().out
    assert "no key takes a batch" in told
    assert "Missing scopes: api.batch" in told


def test_a_key_with_access_does_the_work_of_one_without(desk: Desk) -> None:
    base_url = desk.serve(keys={"sk-test-without-1234": {"batch": False}, "sk-test-with-56789": {}})
    keys = [{"api_key": key, "base_url": base_url} for key in ("sk-test-without-1234",)]
    desk.write_keys(*keys, {"api_key": "sk-test-with-56789", "base_url": base_url})
    assert desk.run() == 0
    assert desk.output() == done(*NUMBERS)


def test_a_host_without_a_batch_api_is_an_error_before_anything(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    base_url = desk.serve()
    desk.write_keys({"api_key": "sk-test-1234567890", "base_url": f"{base_url}/elsewhere"})
    assert desk.run() == 2
    assert "has no Batch API" in capsys.readouterr().err


def test_a_model_on_this_machine_has_no_batch_api(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    assert desk.run("--local") == 2
    assert "--local and mode batch exclude each other" in capsys.readouterr().err
    assert not (desk.folder / ".gptflow/crash.db").exists()


def test_no_wait_leaves_with_the_batches_at_the_provider(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.serve(batch={"latency": "1s"})
    assert desk.run("--no-wait") == 3
    assert "3 batches with 10 calls are with the provider" in capsys.readouterr().out
    assert desk.run("--no-wait") == 3  # nothing has come yet, or the first round alone
    assert desk.run() == 0
    assert desk.output() == done(*NUMBERS)
    assert sum(desk.submitted()) == 15


def test_a_program_need_not_wait_either(desk: Desk) -> None:
    desk.serve(batch={"latency": "500ms"})
    left = gptflow.run("spec.yaml", wait=False)
    assert (left.status, left.pending, left.exit_code) == (Ending.STOPPED, ROWS, 3)
    assert "are with the provider" in str(left.message)
    assert gptflow.run("spec.yaml").done == ROWS
    assert sum(desk.submitted()) == 15


def test_no_wait_is_for_batch_mode(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.serve()
    assert desk.run("--mode", "async", "--no-wait") == 2
    assert "--no-wait is for batch mode" in capsys.readouterr().err


def test_a_signal_leaves_the_batches_where_they_are(desk: Desk) -> None:
    desk.serve(batch={"latency": "1s"})
    words = [sys.executable, "-m", "gptflow", "run", "spec.yaml"]
    has_submitted = desk.has_submitted(3)
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert has_submitted.wait(60)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 143
    assert "are with the provider; the same command fetches them" in told
    assert desk.run() == 0
    assert desk.output() == done(*NUMBERS)
    assert sum(desk.submitted()) == 15


def test_batches_of_a_key_that_is_gone_are_not_paid_again(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    base_url = desk.serve(batch={"latency": "30s", "ends": []})
    assert desk.run("--no-wait") == 3
    desk.write_keys({"api_key": "sk-another-1234567890", "name": "new", "base_url": base_url})
    capsys.readouterr()
    assert desk.run(*AT_ONCE) == 3
    assert "is needed to fetch 3 batches with 10 calls" in capsys.readouterr().out
    assert desk.submitted() == [4, 4, 2]


def test_a_key_that_may_not_look_leaves_its_batches_to_no_other_account(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {f"sk-test-{n}-1234567": {"organization": n} for n in "ab"}
    revoked = {"sk-revoked-1234567": {"organization": "a", "batch": False}}
    base_url = desk.serve(keys=names | revoked, batch={"latency": "30s"})
    first, second = (
        {"api_key": key, "name": key[-9:-8], "base_url": base_url, "organization": key[-9:-8]}
        for key in names
    )
    desk.write_keys(first)
    assert desk.run("--no-wait") == 3
    desk.write_keys({**first, "api_key": "sk-revoked-1234567"}, second)
    capsys.readouterr()
    assert desk.run(*AT_ONCE) == 3
    assert "key a is needed to fetch 3 batches" in capsys.readouterr().out
    assert desk.submitted() == [4, 4, 2]


@pytest.mark.parametrize("name", ["wrong_path_html", "model_not_found"])
def test_a_batch_that_is_not_found_for_a_moment_is_kept(desk: Desk, name: str) -> None:
    hidden = {"name": name, "match": "GET /v1/batches/batch", "first": 2}
    desk.serve(batch={"latency": "500ms", "requests": [hidden]})
    assert desk.run() == 0
    assert sum(desk.submitted()) == 15


def test_a_batch_that_is_not_found_for_long_is_asked_anew_once_no_list_has_it(
    desk: Desk,
) -> None:
    slow = {"latency": {"uniform": ["30s", "30s"]}}
    base_url = desk.serve(batch=slow)
    assert desk.run("--no-wait") == 3
    desk.write_keys({"api_key": "sk-another-1234567890", "base_url": base_url})
    assert desk.run("--set", "limits.wall_s=2") == 3
    assert sum(desk.submitted()) == 10
    assert desk.run(*AT_ONCE, "--set", "limits.wall_s=5") == 3
    assert sum(desk.submitted()) == 10 + 10


def test_another_key_of_the_organization_fetches_what_one_has_left(desk: Desk) -> None:
    rules: dict[str, Any] = {f"sk-test-{n}-1234567": {"organization": "org"} for n in (1, 2)}
    base_url = desk.serve(keys=rules, batch={"latency": "300ms"})
    first, second = (
        {"api_key": key, "name": key[-9:-8], "base_url": base_url, "organization": "org"}
        for key in rules
    )
    desk.write_keys(first)
    assert desk.run("--no-wait") == 3
    desk.write_keys(second)
    assert desk.run() == 0
    assert sum(desk.submitted()) == 15


def test_a_fresh_run_asks_everything_though_a_batch_is_on_its_way(desk: Desk) -> None:
    desk.serve(batch={"latency": "300ms"})
    assert desk.run("--no-wait") == 3
    assert desk.run("--fresh") == 0
    assert sum(desk.submitted()) == 10 + 15


def test_another_run_takes_what_an_earlier_one_has_on_its_way(desk: Desk) -> None:
    desk.serve(batch={"latency": "300ms"})
    assert desk.run("--no-wait", "--set", "source.limit=8") == 3
    assert desk.run() == 0
    assert desk.output() == done(*NUMBERS)
    assert sum(desk.submitted()) == 15


def test_a_limit_of_money_holds_for_batches(desk: Desk) -> None:
    desk.serve()
    assert desk.run(*PRICED, "--set", "limits.cost_usd=0.05") == 3
    asked = sum(desk.submitted())
    assert desk.run(*PRICED, "--set", "limits.cost_usd=1000") == 0
    assert asked < sum(desk.submitted()) == 15


def test_where_money_is_limited_a_few_calls_show_what_the_others_may_cost(desk: Desk) -> None:
    desk.write_rows(200)
    desk.serve(reply=lambda _: "word " * 8_000)
    dear = ("--set", "limits.prices={gpt-4o-mini: {input: 1, output: 2}}")
    one = (*ONE_STEP, "--set", "parallelism.batch.requests=1000")
    assert desk.run(*one, *dear, "--set", "limits.cost_usd=0.1") == 3
    assert desk.submitted() == [30]


def test_a_call_that_no_batch_can_hold_fails_its_row_alone(desk: Desk) -> None:
    rows = [{"number": 0}, {"number": 1, "more": "x" * 1_200_000}]
    (desk.folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prompt = "Label row {{ number }}. {{ more | default('') }}"
    (desk.folder / "spec.yaml").write_text(SPEC.replace("Label row {{ number }}.", prompt))
    desk.serve()
    assert desk.run("--set", "parallelism.batch.megabytes=1") == 1
    (failed,) = desk.output("out.failed.jsonl")
    assert failed["error"]["kind"] == "rejected"
    assert "larger than a batch may be" in failed["error"]["message"]
    assert desk.output() == done(0)


def test_uploads_are_for_the_eyes_of_one_user(desk: Desk) -> None:
    desk.serve(batch={"requests": [{"name": "server_500", "match": "POST /v1/files"}]})
    assert desk.run("--no-wait", "--set", "limits.outage_s=0.1") == 3
    (folder,) = desk.folder.glob(".gptflow/crash.db.batches")
    assert folder.stat().st_mode & 0o077 == 0
    assert [path.stat().st_mode & 0o077 for path in folder.iterdir()] == [0, 0, 0]


def test_the_store_never_holds_a_key(desk: Desk) -> None:
    base_url = desk.serve(batch={"latency": "30s"})
    secret = {"api_key": "sk-secret-1234567890", "headers": {"x-team": "very-private-value"}}
    desk.write_keys({**secret, "base_url": base_url})
    assert desk.run("--no-wait") == 3
    written = b"".join(path.read_bytes() for path in desk.folder.glob(".gptflow/**/*.*"))
    assert b"sk-secret" not in written
    assert b"very-private" not in written
    assert json.dumps(desk.submitted()) == "[4, 4, 2]"
