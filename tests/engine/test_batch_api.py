from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gptflow.engine.batch_api import BatchApi
from gptflow.engine.batch_line import request_line
from gptflow.engine.batch_state import ApiRefused
from gptflow.engine.config import KeyEntry
from gptflow.engine.secret import Secret
from gptflow.engine.verdicts import VerdictKind
from gptflow.mock.scenario import Scenario
from gptflow.mock.server import MockServer
from gptflow.records import Call, FailureKind

SECRET = "sk-secret-1234567890"


def key_of(base_url: str) -> KeyEntry:
    return KeyEntry("main", Secret(SECRET), base_url)


def asked(key: KeyEntry, work: Callable[[BatchApi], Awaitable[Any]], timeout_s: float = 5) -> Any:
    async def ask() -> Any:
        api = BatchApi(key, timeout_s=timeout_s)
        try:
            return await work(api)
        finally:
            await api.aclose()

    return asyncio.run(ask())


def refused(key: KeyEntry, work: Callable[[BatchApi], Awaitable[Any]], timeout_s: float = 5) -> Any:
    with pytest.raises(ApiRefused) as refusal:
        asked(key, work, timeout_s)
    return refusal.value.verdict


@pytest.fixture
def server() -> Iterator[MockServer]:
    with MockServer(Scenario.model_validate({"batch": {"latency": "0s"}})) as made:
        yield made


@pytest.fixture
def upload(tmp_path: Path) -> Path:
    path = tmp_path / "calls.jsonl"
    call = Call(b"k" * 16, "label", "m", [{"role": "user", "content": "Hi"}], {})
    path.write_bytes(request_line(call))
    return path


def test_a_file_becomes_a_batch_that_is_found_by_its_tag(server: MockServer, upload: Path) -> None:
    async def work(api: BatchApi) -> None:
        file_id = await api.upload(upload, "gptflow-t.jsonl")
        made = await api.create(file_id, "chat/completions", "t.0")
        again = await api.create(file_id, "chat/completions", "t.0")
        found = await api.find("t.0", time.time() - 60)
        assert [one.remote_id for one in found] == [again.remote_id, made.remote_id]
        assert await api.find("t.1", time.time() - 60) == []

    asked(key_of(server.base_url), work)


def test_the_environment_adds_no_header(monkeypatch: pytest.MonkeyPatch) -> None:
    # A key of the variable would be another one's, and the simulator serves only this one.
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    monkeypatch.setenv("OPENAI_ORG_ID", "other")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "authorization: Bearer sk-other")
    rules = {"keys": {SECRET: {}}, "unknown_keys": "refuse"}
    with MockServer(Scenario.model_validate(rules)) as strict:
        asked(key_of(strict.base_url), BatchApi.probe)


def test_a_refusal_is_judged_as_that_of_a_call(server: MockServer) -> None:
    verdict = refused(key_of(server.base_url), lambda api: api.look("batch_none"))
    assert (verdict.kind, verdict.status) == (VerdictKind.REJECTED, 404)


def test_no_connection_is_a_fault_that_passes() -> None:
    verdict = refused(key_of("http://127.0.0.1:9/v1"), BatchApi.probe)
    assert (verdict.kind, verdict.failure) == (VerdictKind.RETRY, FailureKind.TRANSPORT)


def test_a_server_that_drips_is_given_up_in_time() -> None:
    dripping = {"batch": {"requests": [{"name": "slow_drip"}]}}
    with MockServer(Scenario.model_validate(dripping)) as server:
        verdict = refused(key_of(server.base_url), BatchApi.probe, timeout_s=0.5)
    assert (verdict.kind, verdict.failure) == (VerdictKind.RETRY, FailureKind.TIMEOUT)


def test_a_key_that_is_not_valid_is_told_without_it() -> None:
    wrong = {"batch": {"requests": [{"name": "invalid_api_key"}]}}
    with MockServer(Scenario.model_validate(wrong)) as server:
        verdict = refused(key_of(server.base_url), BatchApi.probe)
    assert verdict.kind is VerdictKind.RETIRED
    assert SECRET not in verdict.message
