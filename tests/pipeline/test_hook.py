"""A function that a spec names: found without running it, looked at, and called."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gptflow.pipeline.hook import BadHook, Hook, HookFault, find_hook, load_hook
from gptflow.pipeline.hook_file import PythonAccess
from gptflow.spec.hook import Role
from tests.own_python import forgotten_afterwards

Write = Callable[[str], PythonAccess]


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    """Writes the module `lib_of_test`; gives the access to its folder."""

    def write(text: str) -> PythonAccess:
        (tmp_path / "lib_of_test.py").write_text(text)
        return PythonAccess.of(is_allowed=True, folders=[tmp_path])

    with forgotten_afterwards(tmp_path):
        yield write


def load(access: PythonAccess, role: Role = "step", name: str = "f") -> Hook:
    return load_hook(f"lib_of_test:{name}", role, access)


def complaint(access: PythonAccess, role: Role = "step", name: str = "f") -> str:
    with pytest.raises(BadHook) as bad:
        load(access, role, name)
    return f"{bad.value} | {bad.value.hint}"


def test_a_module_is_found_without_running_it(write: Write) -> None:
    access = write("raise SystemExit('it ran')")
    found = find_hook("lib_of_test:f", access)
    assert found is not None
    assert found.name == "lib_of_test.py"
    assert "lib_of_test" not in sys.modules


def test_a_module_in_a_package_is_found_without_running_the_package(
    write: Write, tmp_path: Path
) -> None:
    access = write("")
    (tmp_path / "pack_of_test").mkdir()
    (tmp_path / "pack_of_test" / "__init__.py").write_text("raise SystemExit('it ran')")
    (tmp_path / "pack_of_test" / "inner.py").write_text("")
    found = find_hook("pack_of_test.inner:f", access)
    assert found == tmp_path / "pack_of_test" / "inner.py"
    assert "pack_of_test" not in sys.modules


def test_nothing_is_found_where_nothing_is_allowed(write: Write) -> None:
    write("")
    with pytest.raises(BadHook, match="is Python code, which runs as you do") as bad:
        find_hook("lib_of_test:f", PythonAccess())
    assert "--allow-python" in (bad.value.hint or "")


def test_a_folder_is_looked_in_after_all_other_places(write: Write, tmp_path: Path) -> None:
    access = write("")
    (tmp_path / "json.py").write_text("raise SystemExit('taken for another')")
    access.enter()
    access.enter()
    assert sys.path[-1] == str(tmp_path)
    assert sys.path.count(str(tmp_path)) == 1
    assert find_hook("json:loads", access) != tmp_path / "json.py"


def test_a_module_that_is_not_there_is_told_with_where_it_was_looked_for(
    write: Write, tmp_path: Path
) -> None:
    with pytest.raises(BadHook, match="no Python module 'lib_of_tset'") as bad:
        find_hook("lib_of_tset:f", write(""))
    assert str(tmp_path) in (bad.value.hint or "")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def g(row): ...", "has no function 'f'"),
        ("def ff(row): ...", "did you mean 'ff'?"),
        ("f = 3", "is no function, it is an int"),
        ("import no_such_package", "No module named 'no_such_package' ("),
        ("def f(:", "SyntaxError"),
        ("raise SystemExit(3)", "cannot be imported: SystemExit: 3"),
        ("def f(): ...", "called with (row) or (row, wrapper)"),
        ("def f(a, b, c): ...", "lib_of_test:f(a, b, c) does not fit"),
        ("def f(row, *, k): ...", "does not fit"),
        ("def f(row): yield row", "yields"),
        ("async def f(row): yield row", "yields"),
    ],
)
def test_what_can_be_known_before_it_is_called_is_told(write: Write, text: str, told: str) -> None:
    assert told in complaint(write(text))


def test_an_import_that_fails_is_told_with_its_line(write: Write) -> None:
    assert "lib_of_test.py:2)" in complaint(write("\n1 / 0"))


@pytest.mark.parametrize("role", ["extractor", "transform"])
def test_only_a_step_may_be_async(write: Write, role: Role) -> None:
    access = write("async def f(text): ...")
    assert load(access).is_async
    assert "is async; only the hook of a step may be" in complaint(access, role)


@pytest.mark.parametrize(
    ("text", "role", "takes_second"),
    [
        ("def f(row): ...", "step", False),
        ("def f(row, wrapper): ...", "step", True),
        ("def f(row, w): ...", "step", True),
        ("def f(row, wrapper=None): ...", "step", True),
        ("def f(row, strict=False): ...", "step", False),
        ("def f(*args): ...", "step", False),
        ("f = len", "extractor", False),
        ("def f(text, row): ...", "extractor", True),
        ("class C:\n def __call__(self, row, wrapper): ...\nf = C()", "step", True),
        ("class C:\n @staticmethod\n def g(row): ...\nf = C.g", "step", False),
    ],
)
def test_the_second_argument_goes_to_who_needs_it_or_names_it(
    write: Write, text: str, role: Role, takes_second: bool
) -> None:
    assert load(write(text), role).takes_second is takes_second


def test_a_transform_takes_one_argument(write: Write) -> None:
    assert "called with (row)" in complaint(write("def f(row, wrapper): ..."), "transform")


def test_a_function_may_stand_in_a_class(write: Write) -> None:
    access = write("class C:\n @staticmethod\n def g(row): return {'x': 1}")
    assert load(access, name="C.g").call({}) == {"x": 1}


def test_the_digest_hangs_on_the_file_and_on_that_of_the_function(
    write: Write, tmp_path: Path
) -> None:
    access = write("def f(row): return {'x': 1}")
    first = load(access)
    again = load(access)
    write("def f(row): return {'x': 2}")
    edited = load(access)
    assert first.digest == again.digest != edited.digest
    assert (first.call({}), edited.call({})) == ({"x": 1}, {"x": 2})
    (tmp_path / "other_of_test.py").write_text("def f(row): return {'x': 3}")
    write("from other_of_test import f")
    imported = load(access)
    (tmp_path / "other_of_test.py").write_text("def f(row): return {'x': 4}")
    assert load(access).digest != imported.digest


def test_what_a_function_raises_is_told_with_its_type_text_and_line(write: Write) -> None:
    access = write("def f(row):\n    return g(row)\ndef g(row):\n    return row['no\\x1b']")
    with pytest.raises(HookFault) as fault:
        load(access).call({})
    told = str(fault.value)
    assert told.startswith("lib_of_test:f: KeyError: 'no\\x1b' (")
    assert told.endswith("lib_of_test.py:4)")


@pytest.mark.parametrize("error", ["SystemExit(1)", "KeyboardInterrupt", "MemoryError"])
def test_a_function_ends_no_process(write: Write, error: str) -> None:
    with pytest.raises(HookFault, match=error.partition("(")[0]):
        load(write(f"def f(row): raise {error}")).call({})


def test_a_value_error_of_an_extractor_is_its_word_about_the_reply(write: Write) -> None:
    access = write("def f(text): raise ValueError('no date in it')")
    with pytest.raises(ValueError, match="no date in it"):
        load(access, "extractor").call("")
    with pytest.raises(HookFault):
        load(access, "transform").call({})
