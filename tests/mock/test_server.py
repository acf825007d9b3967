from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from datetime import timedelta
from threading import Thread

import openai
import pytest
from pyreqwest.client import ClientBuilder
from pyreqwest.exceptions import PyreqwestError

from gptflow.errors import UsageError
from gptflow.mock.scenario import Scenario
from gptflow.mock.server import MockServer
from tests.mock.conftest import Serve, Serving


def test_only_loopback_is_served() -> None:
    for host in ("0.0.0.0", "192.168.1.5", "example.com"):
        with pytest.raises(UsageError, match="not a loopback address"):
            MockServer(host=host)


def test_a_taken_port_is_an_error() -> None:
    with MockServer() as first:
        port = int(first.base_url.split(":")[2].removesuffix("/v1"))
        with pytest.raises(UsageError, match=f"cannot listen on 127.0.0.1 port {port}"):
            MockServer(port=port)


def test_stats_count_what_happened(serve: Serve) -> None:
    served = serve(failures=[{"name": "server_500", "first": 1}])
    for _ in range(3):
        served.ask("Hello there")
    served.noted()
    stats = served.server.stats
    assert (served.server.requests, stats.answered, stats.in_flight) == (3, 3, 0)
    assert (stats.statuses, stats.failures) == ({200: 2, 500: 1}, {"server_500": 1})
    assert (stats.prompt_tokens, stats.completion_tokens) == (6, 6)


def test_stopping_breaks_off_what_is_in_flight(serve: Serve) -> None:
    served = serve()
    for scenario in (
        Scenario.model_validate(s) for s in ({"latency": 60}, {"failures": {"hang": 1}})
    ):
        server = MockServer(scenario)
        server.start()
        errors: list[Exception] = []
        asking = Thread(target=_keep_error, args=(served._replace(server=server), errors))
        asking.start()
        while server.stats.in_flight == 0:
            time.sleep(0.005)
        began_s = time.monotonic()
        server.stop()
        assert time.monotonic() - began_s < 20
        asking.join()
        assert errors


def _is_there(served: Serving) -> bool:
    try:
        return served.ask().status == 200
    except PyreqwestError:
        return False


def test_an_outage_breaks_what_is_in_flight_and_passes(serve: Serve) -> None:
    served = serve(
        failures=[{"name": "hang", "first": 1}, {"name": "hang", "match": "again", "first": 1}],
        outages=[{"at": "0.1s", "lasts": "0.1s"}, {"at": "0.6s", "lasts": "0.1s"}],
    )
    for question in ("once", "again"):
        with pytest.raises(PyreqwestError):
            served.ask(question)
        deadline_s = time.monotonic() + 10
        while not _is_there(served) and time.monotonic() < deadline_s:
            time.sleep(0.005)
        assert _is_there(served)


def test_an_outage_ends_an_answer_that_drips(
    serve: Serve, capfd: pytest.CaptureFixture[str]
) -> None:
    served = serve(failures=[{"name": "slow_drip"}], outages=[{"at": "0.3s", "lasts": "0.1s"}])
    with pytest.raises(PyreqwestError):
        served.ask("x")
    time.sleep(0.5)  # longer than until its next byte
    assert "Traceback" not in capfd.readouterr().err


def test_an_outage_refuses_connections_and_a_server_can_end_within_it(serve: Serve) -> None:
    served = serve()
    scenario = Scenario.model_validate({"outages": [{"at": 0, "lasts": 600}]})
    with MockServer(scenario) as server:
        away = served._replace(server=server)
        deadline_s = time.monotonic() + 10
        while _is_there(away) and time.monotonic() < deadline_s:
            time.sleep(0.005)
        assert not _is_there(away)


def _keep_error(served: object, errors: list[Exception]) -> None:
    try:
        served.ask()  # type: ignore[attr-defined]
    except PyreqwestError as error:
        errors.append(error)


def test_two_thousand_requests_wait_side_by_side() -> None:
    async def ask_all(url: str) -> set[int]:
        async with ClientBuilder().no_proxy().timeout(timedelta(seconds=20)).build() as client:
            body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}]})

            async def ask() -> int:
                request = client.post(url).header("authorization", "Bearer sk")
                return (await request.body_text(body).build().send()).status

            return set(await asyncio.gather(*(ask() for _ in range(2000))))

    with MockServer(Scenario.model_validate({"latency": "1s"})) as server:
        assert asyncio.run(ask_all(f"{server.base_url}/chat/completions")) == {200}
        assert server.stats.peak_in_flight > 1000


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_command_without_a_trace(number: signal.Signals) -> None:
    code = (
        "from gptflow.mock.scenario import Scenario\n"
        "from gptflow.mock.server import serve\n"
        "serve(Scenario(), host='127.0.0.1', port=0, announce=lambda url: print(url, flush=True))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("http://127.0.0.1:")
    process.send_signal(number)
    _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "")


def test_the_sdk_of_openai_talks_to_it(serve: Serve) -> None:
    rules = {
        "rate_limit_rpm": openai.RateLimitError,
        "insufficient_quota": openai.RateLimitError,
        "invalid_api_key": openai.AuthenticationError,
        "context_length_exceeded": openai.BadRequestError,
        "model_not_found": openai.NotFoundError,
        "server_500": openai.InternalServerError,
        "bad_gateway_502": openai.InternalServerError,
        "reset_mid_body": openai.APIConnectionError,
    }
    served = serve(failures=[{"name": name, "match": f"^{name}$"} for name in rules])

    async def ask(client: openai.AsyncOpenAI, user: str) -> str | None:
        got = await client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": user}]
        )
        return got.choices[0].message.content

    async def ask_all() -> None:
        async with openai.AsyncOpenAI(
            api_key="sk-one", base_url=served.server.base_url, max_retries=0
        ) as client:
            assert await ask(client, "Hello") == "Hello"
            assert [model.id async for model in client.models.list()] == ["simulated"]
            for name, expected in rules.items():
                with pytest.raises(expected):
                    await ask(client, name)

    asyncio.run(ask_all())
