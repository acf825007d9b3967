from __future__ import annotations

from pathlib import Path

import pytest

import gptflow
from gptflow.engine.caller import Send
from gptflow.errors import ConfigError, UsageError
from gptflow.pipeline.identity import digest_of
from gptflow.records import Call, Reply, Usage
from gptflow.runner.loop import run_coroutine
from gptflow.runner.rehearsal import Rehearsal
from gptflow.runner.server import MOCK, ServerChoice, keyless_config, open_server
from tests.runner.conftest import Folder

pytestmark = pytest.mark.usefixtures("folder")
SAME_TEXTS = """
name: stories
source: {range: 100}
model: {name: m}
steps: [{name: tell, prompt: Tell a story., extract: {story: text}}]
"""
KEYS = '{"key_index": 0, "key_list": [{"api_key": "sk-any", "name": "%s"}]}'


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        (ServerChoice(), ""),
        (ServerChoice(config=Path("keys.json")), ""),
        (ServerChoice(mock=True), MOCK),
        (ServerChoice(local=True), "local:SmolLM2-135M-Instruct"),
        (ServerChoice(local=True, weights=Path("models/tiny.gguf")), "local:tiny-missing"),
    ],
)
def test_answers_of_simulators_and_local_models_have_a_name_of_their_own(
    choice: ServerChoice, name: str
) -> None:
    assert choice.name == name


def test_without_any_key_three_ways_are_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        ServerChoice().find_config({})
    assert caught.value.message == "no config.json here and no OPENAI_API_KEY"
    for way in ("config.json", "OPENAI_API_KEY", "--local", "--mock"):
        assert way in (caught.value.hint or "")


def test_config_json_of_the_folder_wins_over_the_environment() -> None:
    environ = {"OPENAI_API_KEY": "sk-other"}
    from_environment = ServerChoice().find_config(environ)
    Path("config.json").write_text(KEYS % "here")
    from_folder = ServerChoice().find_config(environ)
    assert from_environment is not None
    assert from_folder is not None
    assert from_environment.origin == "OPENAI_API_KEY"
    assert (from_folder.origin, from_folder.keys[0].name) == ("config.json", "here")


def test_a_config_that_is_named_wins_over_that_of_the_folder() -> None:
    Path("config.json").write_text("broken")
    Path("keys.json").write_text(KEYS % "there")
    config = ServerChoice(config=Path("keys.json")).find_config({})
    assert config is not None
    assert config.keys[0].name == "there"


@pytest.mark.parametrize("choice", [ServerChoice(), ServerChoice(config=Path("config.json"))])
def test_a_config_that_is_wrong_is_named(choice: ServerChoice) -> None:
    Path("config.json").write_text('{"key_list": [}')
    with pytest.raises(ConfigError, match=r"config\.json:1:15"):
        choice.find_config({"OPENAI_API_KEY": "sk-other"})


def test_a_config_that_is_named_must_be_there() -> None:
    with pytest.raises(ConfigError, match=r"keys\.json: No such file"):
        ServerChoice(config=Path("keys.json")).find_config({"OPENAI_API_KEY": "sk-other"})


def test_a_simulator_needs_no_key_and_has_its_scenario_checked() -> None:
    assert ServerChoice(mock=True).find_config({}) is None
    Path("scenario.yaml").write_text("latency: soon\n")
    with pytest.raises(ConfigError, match=r"scenario\.yaml"):
        ServerChoice(mock=True, scenario=Path("scenario.yaml")).find_config({})


def test_a_local_model_has_its_weights_checked() -> None:
    with pytest.raises(UsageError, match=r"none\.gguf"):
        ServerChoice(local=True, weights=Path("none.gguf")).find_config({})


def test_the_paid_keys_are_used_as_they_are(folder: Folder) -> None:
    config = keyless_config("http://127.0.0.1:1/v1", "any")
    with open_server(ServerChoice(), config, folder.prepare().plan) as server:
        assert server.config is config
        assert (server.max_concurrency, server.rehearsal) == (None, None)


def test_the_simulator_lives_as_long_as_its_block(folder: Folder) -> None:
    with open_server(ServerChoice(mock=True), None, folder.prepare().plan) as server:
        assert server.config.keys[0].base_url.startswith("http://127.0.0.1:")
        assert server.rehearsal is not None


# ------------------------------------------------------------------ made-up replies


class Echo:
    """Asks the rehearsal as the simulator would, while the call is under way."""

    def __init__(self, rehearsal: Rehearsal) -> None:
        self._rehearsal = rehearsal

    async def ask(
        self, call: Call, *, prefer: str | None = None, send: Send | None = None
    ) -> Reply:
        del prefer, send
        text = self._rehearsal.reply({"model": call.model, "messages": call.messages})
        return Reply(text, "stop", Usage(), call.model, b"")


def rehearsed(folder: Folder, step: str, content: str) -> str:
    rehearsal = Rehearsal(folder.prepare().plan)
    messages = [{"role": "user", "content": content}]
    call = Call(bytes.fromhex(digest_of(messages)), step, "gpt-4o-mini", messages, {})
    return run_coroutine(rehearsal.noting(Echo(rehearsal)).ask(call)).text


def test_a_rehearsal_gives_each_step_a_reply_that_its_extractors_accept(folder: Folder) -> None:
    steps = {step.name: step for step in folder.prepare().plan.steps}
    reply = rehearsed(folder, "label", "Label it.")
    assert steps["label"].extract(reply)["label"] in ("good", "bad")
    assert steps["apology"].extract(rehearsed(folder, "apology", "Sorry?"))["apology"]


def test_a_rehearsal_gives_the_same_reply_to_the_same_question_and_not_to_all(
    folder: Folder,
) -> None:
    replies = [rehearsed(folder, "label", f"Label {number}.") for number in range(20)]
    assert replies == [rehearsed(folder, "label", f"Label {number}.") for number in range(20)]
    assert len(set(replies)) > 1


def test_rows_with_equal_texts_are_rehearsed_each(folder: Folder) -> None:
    (folder.path / "same.yaml").write_text(SAME_TEXTS)
    result = gptflow.run("same.yaml", server=ServerChoice(mock=True))
    assert (result.done, result.failed) == (100, 0)


def test_a_scenario_that_says_what_to_reply_is_obeyed(folder: Folder) -> None:
    (folder.path / "same.yaml").write_text(SAME_TEXTS)
    (folder.path / "scenario.yaml").write_text("reply: {text: Once upon a time.}")
    result = gptflow.run(
        "same.yaml", server=ServerChoice(mock=True, scenario=Path("scenario.yaml"))
    )
    assert {row["story"] for row in result.iter_rows()} == {"Once upon a time."}


def test_model_files_of_the_same_name_have_names_of_their_own(tmp_path: Path) -> None:
    names = set()
    for folder in ("a", "b"):
        weights = tmp_path / folder / "model.gguf"
        weights.parent.mkdir()
        weights.write_bytes(b"GGUF" + folder.encode())
        names.add(ServerChoice(local=True, weights=weights).name)
    assert len(names) == 2
