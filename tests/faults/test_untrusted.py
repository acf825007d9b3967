"""Specs, rows, replies and servers that mean harm. docs/safety.md lists what happens, and which of
these tests shows it.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import pty
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gptflow.cli.main import main
from gptflow.pipeline.prompts import RENDER_ERRORS, PromptEnvironment, render
from tests.project import Project, serving

ECHO = """
name: echo
source: {path: reviews.jsonl}
model: {name: gpt-4o-mini, temperature: 0}
steps: [{name: ask, prompt: "{{ text }}", extract: {said: text}}]
"""
"""A spec whose answers are its questions, where the server echoes."""

KEY = "sk-canary-90817263"
CANARY = "canary-4a1c77"
"""Stands in files and variables that nobody may read."""

EVIL = "a\x1b[31mb\x1b]52;c;AAAA\x07\x1b]8;;http://evil\x1b\\\x9b2J\x85\r\x7f\u202e\u2066"
"""Colours, the clipboard, a link, C1, a carriage return, DEL, and other directions of writing."""
COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

echoing = pytest.mark.parametrize("project", [{"reply": "echo"}], indirect=True)


@dataclass(frozen=True)
class Said:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def all(self) -> str:
        return self.out + self.err


@dataclass(frozen=True)
class Place:
    """A working directory, and the program to run in it, in this process."""

    folder: Path
    said: Callable[..., Said]

    def spec(self, text: str = "", *, prompt: str = "{{ text }}", source: str = "") -> Said:
        """Validates a spec with `text` at its end."""
        source = source or "rows: [{text: a}]"
        ask = json.dumps({"name": "ask", "prompt": prompt})
        spec = f"name: a\nsource: {{{source}}}\nmodel: {{name: m}}\nsteps: [{ask}]\n{text}\n"
        (self.folder / "spec.yaml").write_text(spec, encoding="utf-8")
        return self.said("validate", "spec.yaml")

    def refused(self, *arguments: Any, **values: Any) -> str:
        """Why a spec is refused."""
        said = self.spec(*arguments, **values)
        assert said.code == 2, said
        assert "Traceback" not in said.err
        assert CANARY not in said.all
        return said.err


@pytest.fixture
def place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Place:
    (tmp_path / "project").mkdir()
    (tmp_path / "secret.txt").write_text(CANARY)
    (tmp_path / "secret.jsonl").write_text(json.dumps({"user": CANARY, "assistant": "x"}))
    monkeypatch.chdir(tmp_path / "project")

    def said(*arguments: str) -> Said:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert isinstance(ended.value.code, int)
        return Said(ended.value.code, *capsys.readouterr())

    return Place(tmp_path / "project", said)


@pytest.fixture
def project(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Project]:
    """SPEC with three reviews, and a server that answers it, or as the test's parameter says."""
    with serving(tmp_path, getattr(request, "param", {})) as made:
        yield made


# ------------------------------------------------------------------ YAML

LAUGHS = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 10))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("l0: &l0 lol\n" + LAUGHS, "aliases blow", id="billion laughs"),
        pytest.param(
            "a: &a [" + "x," * 5000 + "]\nb: [" + "*a," * 5000 + "]", "aliases blow", id="quadratic"
        ),
        pytest.param("a: &a [*a]", "inside of the value", id="itself"),
        pytest.param("a: " + "[" * 100_000, "nested more than 50", id="deep lists"),
        pytest.param("a: " + "{a: " * 100_000, "nested more than 50", id="deep mappings"),
        pytest.param("? " + "- " * 100_000, "nested more than 50", id="deep keys"),
        pytest.param("k" * 900_000 + ": 1", "1 problem", id="a huge key"),
        pytest.param("? " + "k" * 900_000 + "\n: 1", "unknown key", id="another huge key"),
        pytest.param(
            "? " + "k" * 400_000 + "\n: 1\n? " + "k" * 400_000 + "\n: 1",
            "second",
            id="two huge keys",
        ),
        pytest.param("a: &a {x: 1}\nb: {<<: *a}", "no merge key", id="merge key"),
        pytest.param("a: !!python/object/apply:os.system [id]", "tags mean nothing", id="python"),
        pytest.param("a: !!python/name:os.system", "tags mean nothing", id="python name"),
        pytest.param("a: !!binary aGk=", "tags mean nothing", id="binary"),
        pytest.param("name: b", "a second time", id="duplicate key"),
        pytest.param("a: 1\n--- \nb: 1", "second document", id="two documents"),
        pytest.param("a: " + "9" * 900_000, "unknown key", id="a number of a million digits"),
        pytest.param("#" * 50_000_000, "larger than 1,048,576", id="50 MB"),
    ],
)
def test_a_yaml_bomb_is_refused_in_a_moment(place: Place, text: str, why: str) -> None:
    began = time.process_time()
    said = place.refused(text)
    assert why in said
    assert len(said) < 10_000
    assert time.process_time() - began < 10


# ------------------------------------------------------------------ templates

ESCAPES = """
{{ ''.__class__ }}
{{ ''.__class__.__mro__[1].__subclasses__() }}
{{ ''['__class__'] }}
{{ ''['__cla' ~ 'ss__'] }}
{{ '' | attr('__class__') }}
{{ '' | attr('__cla' ~ 'ss__') }}
{{ [''] | map(attribute='__class__') | list }}
{{ [''] | map('attr', '__class__') | list }}
{{ [''] | selectattr('__class__') | list }}
{{ [row] | sort(attribute='__class__') }}
{{ [row] | groupby('__class__') }}
{{ [row] | sum(attribute='__class__.__name__', start='') }}
{{ '{0.__class__}'.format(row) }}
{{ '{0.__class__.__init__.__globals__}'.format(row) }}
{{ '{a.__class__}'.format_map({'a': row}) }}
{{ ('{0.__class__}' | attr('format'))(row) }}
{{ (['{0.__class__}'] | map(attribute='format') | first)(row) }}
{{ '%s' % row.__class__ }}
{{ ('{0.__class__}' | safe).format(row) }}
{{ row.__init__.__globals__ }}
{{ row.items.__func__ }}
{{ row.get.__self__.__class__ }}
{{ self.__init__.__globals__ }}
{{ self._TemplateReference__context }}
{{ cycler.__init__.__globals__.os.popen('id').read() }}
{{ lipsum.__globals__['os'].popen('id').read() }}
{{ joiner.__init__.__globals__ }}
{{ joiner }}
{{ namespace.__init__.__globals__ }}
{{ namespace }}
{{ namespace(a=1).__class__ }}
{{ dict.__base__.__subclasses__() }}
{{ dict.mro() }}
{{ range.__globals__ }}
{{ config.items() }}
{{ request.application.__globals__ }}
{{ _('%(a)s') }}{{ gettext('a') }}
{% trans %}a{% endtrans %}
{% do row.clear() %}
{{ row.update({'text': 'x'}) }}
{{ row.pop('text') }}
{{ labels.append('x') }}
{{ labels.__add__ }}
{{ (labels | map('list') | list).append }}
{{ caller.__globals__ }}
{% macro m() %}{{ caller }}{% endmacro %}{{ m.__init__.__globals__ }}
{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}
{% for x in labels %}{{ loop.__class__ }}{{ loop._iterable }}{% endfor %}
{% set x = ''.__class__ %}{{ x }}
{% import 'os' as os %}{{ os }}
{% include '/etc/passwd' %}
{% extends '../secret.txt' %}
{{ 1 .__class__ }}
{{ (1).real.__class__ }}
{{ ().__class__.__bases__ }}
{{ none.__class__ }}
{{ missing.__class__ }}
{{ (missing | default).__class__ }}
{{ environment }}
{{ context }}
{{ debug() }}
{{ [].sort.__call__ }}
{{ (row | attr).x }}
""".strip().split("\n")
"""Ways out of a sandbox that were found in the past, and their relatives."""


ROW = "[{'text': 'a', 'labels': ['a']}]"
HARMLESS = {"[Undefined]", ROW, f"[(Undefined, {ROW})]"}
"""What Jinja makes of attributes that the sandbox does not show, where a filter asks for them."""


@pytest.mark.parametrize("text", ESCAPES)
def test_a_template_does_not_leave_the_sandbox(text: str) -> None:
    names: dict[str, Any] = {"text": "a", "labels": ["a"], "row": {"text": "a", "labels": ["a"]}}
    before = json.dumps(names)
    try:
        told = render(PromptEnvironment().from_string(text), names)
        assert told in HARMLESS
    except RENDER_ERRORS as refused:
        told = str(refused)
    assert json.dumps(names) == before
    assert not re.search("uid=|root:|<class|0x[0-9a-f]{6}", told)


def test_no_escape_comes_through_the_command_line(place: Place) -> None:
    template = "{{ (''|attr('__cla' ~ 'ss__')).mro() }}"
    assert place.spec(prompt=template).code == 0  # what it computes, nobody knows before
    shown = place.said("preview", "spec.yaml").out
    assert "cannot be asked" in shown
    assert "<class" not in shown


@pytest.mark.parametrize(
    "text",
    [
        "{{ 'a' * 10**9 }}",
        "{{ [0] * 10**9 }}",
        "{{ 'a' | center(10**9) }}",
        "{{ 'a'.center(10**9) }}",
        "{{ '%0999999999d' % 1 }}",
        "{{ '{:999999999}'.format(1) }}",
        "{{ range(10**9) | list }}",
        "{{ 10 ** (10 ** 8) }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        (
            "{% set ns = namespace(x='aa') %}"
            "{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}"
        ),
        (
            "{% set ns = namespace(x=[]) %}"
            "{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x == ns.x }}"
        ),
        (
            "{% set ns = namespace(x=[]) %}"
            "{% for i in range(9999) %}{% set ns.x = ns.x + [text ~ i] %}{% endfor %}"
        ),
        "{{ text | replace('a', text) }}",
        "{{ text | wordwrap(1, wrapstring=text) }}",
    ],
)
def test_a_template_bomb_is_refused_before_it_goes_off(text: str) -> None:
    began = time.process_time()
    with pytest.raises(RENDER_ERRORS):
        render(PromptEnvironment().from_string(text), {"text": "a" * 1_000_000})
    assert time.process_time() - began < 5


@echoing
def test_a_template_without_end_fails_its_row_and_no_other(project: Project) -> None:
    project.write_rows([{"n": 99_999, "text": ""}, {"n": 1, "text": "a" * 100_000}])
    loops = "{% for i in range(n) %}{% for j in range(n) %}{% endfor %}{% endfor %}"
    over_text = "{% for letter in text %}{% endfor %}done"
    project.write("spec.yaml", ECHO.replace("{{ text }}", loops + over_text))
    project.gptflow("run", "spec.yaml", code=1)
    (failed,) = project.output("out/echo.failed.jsonl")
    assert failed["error"]["kind"] == "template"
    assert "more than 5 s" in failed["error"]["message"]
    assert [row["said"] for row in project.output("out/echo.jsonl")] == ["done"]


@pytest.mark.parametrize(
    "include",
    [
        "'../secret.txt'",
        "'sub/../../secret.txt'",
        "'SECRET'",
        "'link.txt'",
        "'linked/secret.txt'",
        "'a\\0.txt'",
        "'" + "a" * 5000 + "'",
        "'.'",
    ],
)
def test_an_include_does_not_leave_the_templates_folder(place: Place, include: str) -> None:
    prompts = place.folder / "prompts"
    prompts.mkdir()
    outside = place.folder.parent
    (prompts / "link.txt").symlink_to(outside / "secret.txt")
    (prompts / "linked").symlink_to(outside)
    include = include.replace("SECRET", str(outside / "secret.txt"))
    for statement in ("include NAME", "import NAME as x", "extends NAME"):
        told = place.refused(
            "templates: prompts", prompt=f"{{% {statement} %}}".replace("NAME", include)
        )
        assert "no template file" in told


def test_an_include_that_a_row_names_finds_only_what_was_read(place: Place) -> None:
    (place.folder / "prompts").mkdir()
    (place.folder / "prompts/tone.txt").write_text("kind")
    names = [
        "tone.txt",
        "../secret.txt",
        str(place.folder.parent / "secret.txt"),
        "a\0",
        "../spec.yaml",
    ]
    rows = json.dumps([{"text": name} for name in names])
    said = place.spec("templates: prompts", prompt="{% include text %}", source=f"rows: {rows}")
    assert said.code == 0
    shown = place.said("preview", "spec.yaml", "-n", "9").out
    assert (shown.count("kind"), shown.count("cannot be asked")) == (1, 4)
    assert CANARY not in shown


@pytest.mark.parametrize("folder", ["linked", "..", "sub/../../"])
def test_a_templates_folder_does_not_leave_the_project(place: Place, folder: str) -> None:
    (place.folder / "linked").symlink_to(place.folder.parent)
    (place.folder / "sub").mkdir()
    told = place.refused(f"templates: {folder}", prompt="{% include 'secret.txt' %}")
    assert "leads out of the project" in told


@pytest.mark.parametrize(
    "name", ["../secret.jsonl", "OUTSIDE/secret.jsonl", "link.jsonl", "a\0b", "."]
)
@pytest.mark.parametrize("key", ["prompt", "system", "examples", "schema"])
def test_a_file_that_a_step_names_lies_in_the_project(place: Place, key: str, name: str) -> None:
    (place.folder / "link.jsonl").symlink_to(place.folder.parent / "secret.jsonl")
    file = {"file": name.replace("OUTSIDE", str(place.folder.parent))}
    step: dict[str, Any] = {"name": "ask", "prompt": "hi"}
    step |= {"extract": {"a": {"schema": file}}} if key == "schema" else {key: file}
    spec = {"name": "a", "source": {"range": 1}, "model": {"name": "m"}, "steps": [step]}
    (place.folder / "spec.yaml").write_text(json.dumps(spec))
    said = place.said("validate", "spec.yaml")
    assert said.code == 2
    assert CANARY not in said.all


def test_a_file_that_a_spec_names_is_no_larger_than_a_prompt_may_be(place: Place) -> None:
    with (place.folder / "huge.txt").open("wb") as file:
        file.truncate(20_000_000_000)  # takes no room, but would take all memory
    assert "larger than 20,000,000 bytes" in place.refused(prompt="{% include 'huge.txt' %}")
    schema = {"label": {"schema": {"file": "huge.txt"}}}
    for key, value in {"prompt": {"file": "huge.txt"}, "extract": schema}.items():
        spec = {"name": "a", "source": {"range": 1}, "model": {"name": "m"}}
        steps = [{"name": "ask", "prompt": "hi", key: value}]
        (place.folder / "spec.yaml").write_text(json.dumps(spec | {"steps": steps}))
        assert "larger than 20,000,000 bytes" in place.said("validate", "spec.yaml").err


@pytest.mark.parametrize(
    "changes",
    [
        {"templates": "loop.txt"},
        {"steps": [{"name": "ask", "prompt": "{% include 'loop.txt' %}"}]},
        {"steps": [{"name": "ask", "prompt": {"file": "loop.txt"}}]},
        {"steps": [{"name": "ask", "prompt": "hi", "examples": {"file": "loop.txt"}}]},
        {"source": {"path": "loop.txt"}},
        {"output": {"path": "loop.txt/a.csv"}},
    ],
)
def test_a_link_that_leads_to_itself_is_no_file(place: Place, changes: dict[str, Any]) -> None:
    (place.folder / "loop.txt").symlink_to("loop.txt")
    steps = [{"name": "ask", "prompt": "hi"}]
    spec = {"name": "a", "source": {"range": 1}, "model": {"name": "m"}, "steps": steps}
    (place.folder / "spec.yaml").write_text(json.dumps(spec | changes))
    assert place.said("run", "spec.yaml", "--mock").code == 2


# ------------------------------------------------------------------ replies

EXPLODING = ["(a+)+$", r"(\w+\s?)+$"]


@pytest.mark.parametrize("pattern", EXPLODING)
@pytest.mark.parametrize(
    "project", [{"reply": {"template": "{{ 'a' * (user | int) }}!"}}], indirect=True
)
def test_a_regex_that_explodes_fails_its_row_and_no_other(project: Project, pattern: str) -> None:
    """The short replies match in no time, by the second alternative."""
    lengths = ["1000000", *["1"] * 8]
    project.write_rows([{"id": n, "text": length} for n, length in enumerate(lengths)])
    said = {"said": {"regex": f"{pattern}|a!$", "group": 0, "timeout_s": 0.2}}
    project.write("spec.yaml", ECHO.replace("{said: text}", json.dumps(said)))
    project.gptflow("run", "spec.yaml", code=1)
    (failed,) = project.output("out/echo.failed.jsonl")
    assert "took longer than 0.2 s" in failed["error"]["message"]
    assert [row["said"] for row in project.output("out/echo.jsonl")] == ["a!"] * 8


HOSTILE_JSON = {
    "brackets": "[" * 100_000,
    "closed brackets": "[" * 100_000 + "]" * 100_000,
    "braces": "{" * 1_000_000,
    "keys": '{"a":' * 100_000,
    "quotes": '["' * 1_000_000,
    "backslashes": '"' + "\\" * 1_000_000,
    "fences": "```\n" * 100_000,
    "digits": "[" + "9" * 1_000_000 + "]",
    "beyond measure": "{" * 50_000_000,
}


@pytest.mark.parametrize("name", HOSTILE_JSON)
def test_catastrophic_json_in_a_reply_is_invalid_in_a_moment(name: str) -> None:
    from gptflow.pipeline.extract.invalid import Invalid
    from gptflow.pipeline.extract.reply_text import ReplyText

    began = time.process_time()
    for wanted in (None, dict, list):
        with pytest.raises(Invalid):
            ReplyText(HOSTILE_JSON[name]).json_value(wanted)
    assert time.process_time() - began < 5


def rusage_of(project: Project, *arguments: str) -> tuple[int, int]:
    """Exit code and peak memory, in MB, of a command."""
    process = project.start(*arguments, env={"GPTFLOW_TEST": "1"})
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.communicate()
    return process.returncode, usage.ru_maxrss // 1024


LARGE = {"reply": {"template": "{{ 'a' * (user | int) }}"}}


@pytest.mark.parametrize("project", [LARGE], indirect=True)
def test_a_reply_of_50_mb_is_stored_whole_and_one_beyond_the_limit_fails(project: Project) -> None:
    project.write_rows([{"id": 1, "text": "50000000"}, {"id": 2, "text": "70000000"}])
    project.write("spec.yaml", ECHO + "limits: {attempts: 1}\n")
    code, peak_mb = rusage_of(project, "run", "spec.yaml")
    assert code == 1
    assert [len(row["said"]) for row in project.output("out/echo.jsonl")] == [50_000_000]
    (failed,) = project.output("out/echo.failed.jsonl")
    assert "larger than 67,108,864 bytes" in failed["error"]["message"]
    assert peak_mb < 1200


@echoing
def test_html_in_a_reply_is_stored_and_exported_as_it_is(project: Project) -> None:
    html = "<script>alert(1)</script><img src=x onerror=alert(1)>&lt;"
    project.write_rows([{"id": 1, "text": html}])
    project.write("spec.yaml", ECHO)
    project.gptflow("run", "spec.yaml")
    assert project.output("out/echo.jsonl")[0]["said"] == html


# ------------------------------------------------------------------ words for a terminal


class _Evil(BaseHTTPRequestHandler):
    """A server that answers or refuses with EVIL."""

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["content-length"]))
        choice = {"message": {"role": "assistant", "content": EVIL}, "finish_reason": "stop"}
        said: dict[str, Any] = {"id": "x", "model": EVIL, "choices": [choice]}
        is_refused = b"refuse" in asked
        if is_refused:
            said = {"error": {"message": f"no: {EVIL}", "type": EVIL, "code": EVIL}}
        body = json.dumps(said).encode()
        self.send_response(400 if is_refused else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST  # noqa: N815  # the library's name

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def evil(project: Project) -> Iterator[Project]:
    """A project whose rows, spec and server are full of EVIL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Evil) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        project.write_rows([{EVIL: EVIL, "text": text + EVIL} for text in ("a", "refuse ")])
        project.write_config(KEY, base_url=f"http://127.0.0.1:{server.server_port}/v1")
        spec = ECHO.replace("name: gpt-4o-mini", f"user: {json.dumps(EVIL)}, name: gpt-4o-mini")
        project.write("spec.yaml", spec)
        yield project
        server.shutdown()


def on_terminal(project: Project, *arguments: str) -> str:
    """What a command writes to a terminal."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "gptflow", *arguments]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(
        command, cwd=project.folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    ):
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # what a terminal says when its last program is gone
            while piece := os.read(ours, 1 << 16):
                shown += piece
    os.close(ours)
    return shown.decode(errors="replace")


def test_no_command_of_a_row_a_reply_or_a_server_reaches_the_terminal(evil: Project) -> None:
    for arguments in (
        ("run", "spec.yaml"),
        ("runs",),
        ("export", "echo"),
        ("export", "echo", "--format", "csv"),
        ("preview", "spec.yaml"),
        ("validate", "spec.yaml", "--set", f"x={json.dumps(EVIL)}"),
        ("run", "spec.yaml", "--set", "steps.ask.extract={said: {regex: x}}"),
        ("validate", EVIL.replace("\x00", "") + ".yaml"),
        ("keys",),
    ):
        shown = on_terminal(evil, *arguments)
        assert shown
        ours = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "", shown.replace("\x1b[31m", "\x07"))
        assert not COMMANDS.findall(ours), (arguments, shown)


def test_words_for_programs_carry_no_command_either(evil: Project) -> None:
    evil.gptflow("run", "spec.yaml", "--json", "-q", code=1)
    for arguments in (
        ("run", "spec.yaml", "--json", "-q", "--retry", "failed"),
        ("runs", "--json"),
        ("validate", "spec.yaml", "--json", "--set", f"x={json.dumps(EVIL)}"),
    ):
        out, _ = evil.start(*arguments).communicate(timeout=60)
        assert not COMMANDS.search(out), arguments
        assert json.loads(out)


def test_what_is_exported_into_a_file_or_a_pipe_is_what_was_said(evil: Project) -> None:
    evil.gptflow("run", "spec.yaml", code=1)
    piped, _ = evil.start("export", "echo").communicate(timeout=60)
    written = (evil.folder / "out/echo.jsonl").read_text(encoding="utf-8")
    assert json.loads(piped)["said"] == json.loads(written)["said"] == EVIL


@pytest.mark.parametrize(
    ("text", "source"),
    [
        (f"{json.dumps(EVIL)}: 1", ""),
        (f"output: {{columns: [{json.dumps(EVIL)}]}}", ""),
        ("", f"rows: [{{{json.dumps(EVIL)}: 1}}]"),
        ("", f"path: {json.dumps(EVIL + '.jsonl')}"),
        ("", "path: evil.jsonl"),
        (f"templates: {json.dumps(EVIL)}", ""),
        (f"vars: {{{json.dumps(EVIL)}: 1}}", ""),
        ("limits: {attempts: '" + EVIL.replace("\x07", "") + "'}", ""),
    ],
)
def test_problems_show_no_command_of_a_spec_or_its_data(
    place: Place, text: str, source: str
) -> None:
    (place.folder / "evil.jsonl").write_text(json.dumps(EVIL) + EVIL + "\n")
    assert not COMMANDS.search(place.refused(text, source=source))


# ------------------------------------------------------------------ the environment


def test_the_environment_is_read_once_and_in_one_form(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTER", "${INNER}{{ 7 * 7 }}")
    monkeypatch.setenv("INNER", CANARY)
    forms = "$INNER $(id) `id` ${INNER:-x} ${INNER%x} ${!INNER} $${INNER} %INNER% ~"
    said = place.spec(
        prompt=f"${{OUTER}} {forms} {{{{ text }}}}", source="rows: [{text: '$${INNER}'}]"
    )
    assert said.code == 0
    shown = place.said("preview", "spec.yaml").out
    # What comes out of the environment is part of the spec, so that its braces are a template's.
    assert f"${{INNER}}49 {forms.replace('$$', '$')} ${{INNER}}" in shown
    assert CANARY not in shown


@echoing
def test_references_in_rows_and_replies_mean_nothing(project: Project) -> None:
    project.write_rows([{"id": "${HOME}", "text": "${HOME} {{ 7 * 7 }}"}])
    project.write("spec.yaml", ECHO)
    project.gptflow("run", "spec.yaml")
    assert project.output("out/echo.jsonl") == [
        {"id": "${HOME}", "text": "${HOME} {{ 7 * 7 }}", "said": "${HOME} {{ 7 * 7 }}"}
    ]


@pytest.mark.parametrize(
    "name",
    ["OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "DB_PASSWORD", "my_apikey", "KEY"],
)
@pytest.mark.parametrize(
    "text",
    [
        "vars: {a: '${NAME}'}",
        "output: {path: 'out/${NAME}.jsonl'}",
        "limits: {attempts: '${NAME}'}",
        "templates: '${NAME}'",
        "notify: {lark: {hook: 'https://a.b/c', keyword: '${NAME}'}}",
    ],
)
def test_a_spec_cannot_read_a_key_from_the_environment(
    place: Place, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    monkeypatch.setenv(name, CANARY)
    assert "looks like a key" in place.refused(text.replace("NAME", name))
    assert "looks like a key" in place.refused(prompt=f"${{{name}}}")


def test_a_hook_may_come_from_the_environment_and_an_api_key_may_not(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LARK_TOKEN", f"https://open.larksuite.com/{CANARY}")
    monkeypatch.setenv("OPENAI_API_KEY", f"https://open.larksuite.com/{CANARY}")
    assert place.spec("notify: {lark: {hook: '${LARK_TOKEN}'}}").code == 0
    assert "looks like a key" in place.refused("notify: {lark: {hook: '${OPENAI_API_KEY}'}}")


@pytest.mark.parametrize("hook", ["http://open.larksuite.com/x", "ftp://a/b", "file:///etc/passwd"])
def test_a_hook_that_is_not_https_is_refused(place: Place, hook: str) -> None:
    assert "not an https URL" in place.refused(f"notify: {{lark: {{hook: '{hook}'}}}}")


HOOKED = """
name: hooked
source: {rows: [{text: a}], transform: "NAME"}
model: {name: m}
steps:
  - {name: own, python: "NAME", fields: [x]}
  - {name: ask, prompt: "{{ x }}", extract: {y: {python: "NAME"}}}
"""


@pytest.mark.parametrize("allow", [[], ["--allow-python"]])
@pytest.mark.parametrize("verb", ["validate", "preview", "run"])
def test_a_spec_runs_no_python_that_was_not_allowed(
    place: Place, verb: str, allow: list[str]
) -> None:
    """With the permission, none but that of a folder that was named."""
    (place.folder / "evil.py").write_text("open('canary', 'w').close()\ndef f(row): ...")
    names = ["evil:f"] if allow else ["evil:f", "os:getpid", "__main__:main", "gptflow:run"]
    for name in names:
        (place.folder / "spec.yaml").write_text(HOOKED.replace("NAME", name))
        said = place.said(verb, "spec.yaml", *allow)
        assert said.code == 2, said
        assert said.err.count("no Python module" if allow else "is Python code, which runs") == 3
    assert not (place.folder / "canary").exists()


# ------------------------------------------------------------------ files


@pytest.mark.parametrize("name", ["../a", "a/b", "/etc/a", "..", ".a", "a\n", "a\0", "", "a" * 101])
def test_a_name_is_no_path(place: Place, name: str) -> None:
    spec = {"name": name, "source": {"range": 1}, "model": {"name": "m"}}
    steps = [{"name": "ask", "prompt": "hi"}]
    (place.folder / "spec.yaml").write_text(json.dumps(spec | {"steps": steps}))
    said = place.said("run", "spec.yaml", "--mock")
    assert (said.code, [*place.folder.iterdir()]) == (2, [place.folder / "spec.yaml"])


@pytest.mark.parametrize(
    "path", ["../../etc/x.jsonl", "../x.jsonl", "linked/x.jsonl", "out.jsonl", "a/../../x.csv"]
)
def test_an_output_does_not_leave_the_project(place: Place, path: str) -> None:
    outside = place.folder.parent
    (place.folder / "linked").symlink_to(outside)
    (place.folder / "out.jsonl").symlink_to(outside / "x.jsonl")
    assert "leads out of the project" in place.refused(f"output: {{path: {path}}}")
    assert place.spec(f"output: {{path: {outside}/x.jsonl}}").code == 0  # said openly, it may


def test_a_default_output_does_not_leave_the_project(place: Place) -> None:
    (place.folder / "out").symlink_to(place.folder.parent)
    assert "is a link out of the project" in place.refused()


@pytest.mark.parametrize(
    "link", ["x.failed.jsonl", "x.simulated.jsonl", "x.simulated.failed.jsonl"]
)
def test_a_link_beside_an_output_is_not_followed(place: Place, link: str) -> None:
    (place.folder / link).symlink_to(place.folder.parent / "secret.txt")
    assert "is a link" in place.refused("output: {path: x.jsonl}")


@echoing
def test_a_part_that_is_a_link_is_replaced_and_not_followed(project: Project) -> None:
    project.write("spec.yaml", ECHO)
    secret = project.write("secret.txt", CANARY)
    (project.folder / "out").mkdir()
    (project.folder / "out/echo.jsonl.part").symlink_to(secret)
    (project.folder / "out/echo.failed.jsonl.part").symlink_to(secret)
    project.gptflow("run", "spec.yaml")
    assert secret.read_text() == CANARY
    assert not (project.folder / "out/echo.jsonl").is_symlink()


@echoing
def test_a_store_that_is_a_link_is_not_followed(project: Project) -> None:
    project.write("spec.yaml", ECHO)
    secret = project.write("secret.txt", "")
    (project.folder / ".gptflow").mkdir()
    (project.folder / ".gptflow/echo.db").symlink_to(secret)
    assert "is a link" in project.gptflow("run", "spec.yaml", code=2)
    assert secret.read_text() == ""


@echoing
def test_a_folder_of_stores_that_is_a_link_is_followed(project: Project) -> None:
    project.write("spec.yaml", ECHO)
    elsewhere = project.folder / "elsewhere"
    elsewhere.mkdir()
    (project.folder / ".gptflow").symlink_to(elsewhere)
    project.gptflow("run", "spec.yaml")
    assert (elsewhere / "echo.db").is_file()


@pytest.mark.parametrize(
    ("output", "why"),
    [
        ("config.json", "the file of keys"),
        ("spec.json", "the spec"),
        ("examples.jsonl", "part of the spec"),
        ("rows.jsonl", "is read as source"),
        ("linked.jsonl", "is read as source"),
        ("more.jsonl", "is read as source"),
    ],
)
def test_an_output_replaces_nothing_that_the_run_is_made_of(
    place: Place, output: str, why: str
) -> None:
    for name in ("rows.jsonl", "more.failed.jsonl", "config.json", "examples.jsonl"):
        (place.folder / name).write_text("{}\n")
    (place.folder / "linked.jsonl").symlink_to("rows.jsonl")
    source = {"path": ["rows.jsonl", "more.failed.jsonl"]}
    steps = [{"name": "ask", "prompt": "hi", "examples": {"file": "examples.jsonl"}}]
    spec = {"name": "a", "source": source, "model": {"name": "m"}, "steps": steps}
    (place.folder / "spec.json").write_text(json.dumps(spec | {"output": {"path": output}}))
    said = place.said("validate", "spec.json")
    assert said.code == 2
    assert why in said.err


@echoing
def test_nor_the_store_nor_the_keys_wherever_they_are(project: Project) -> None:
    project.write("spec.yaml", ECHO + "output: {path: keys.json}\n")
    keys = project.write("keys.json", (project.folder / "config.json").read_text())
    told = project.gptflow("run", "spec.yaml", "--config", "keys.json", code=2)
    assert "holds the keys" in told
    project.gptflow("run", "spec.yaml", "--store", "keys.json", code=2)
    assert "key_list" in keys.read_text()


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/proc/self/environ", "the system's own files"),
        ("environment.txt", "the system's own files"),
        ("/dev/zero", "the system's own files"),
        ("/dev/null", "the system's own files"),
        ("pipe", "not a regular file"),
        ("config.json", "the file of keys"),
        ("keys.txt", "the file of keys"),
    ],
)
def test_a_source_is_a_file_of_data(place: Place, path: str, why: str) -> None:
    os.mkfifo(place.folder / "pipe")
    (place.folder / "config.json").write_text(json.dumps({"key_list": [{"api_key": CANARY}]}))
    (place.folder / "environment.txt").symlink_to("/proc/self/environ")
    (place.folder / "keys.txt").symlink_to("config.json")
    assert why in place.refused(source=f"path: {path}, format: txt")


# ------------------------------------------------------------------ spreadsheets


@echoing
def test_a_safe_csv_runs_no_formula_of_a_row_or_a_model(project: Project) -> None:
    project.write_rows([{"id": -5, "text": "=HYPERLINK('http://evil')", "=1+1": "x"}])
    project.write("spec.yaml", ECHO + "output: {path: out.csv, csv_safe: true}\n")
    project.gptflow("run", "spec.yaml")
    with (project.folder / "out.csv").open(newline="") as file:
        header, row = csv.reader(file)
    assert header == ["id", "text", "'=1+1", "said"]
    assert row == ["-5", "'=HYPERLINK('http://evil')", "x", "'=HYPERLINK('http://evil')"]
