"""A function that a spec names: found without running it, looked at, and called."""

from __future__ import annotations

import importlib
import os
import py_compile
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gptflow.pipeline.hook import BadHook, Hook, HookFault, find_hook, load_hook
from gptflow.pipeline.hook_file import PythonAccess
from gptflow.pipeline.hook_value import plain
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
    library = str(Path(os.__file__).parent)
    assert sys.path.index(str(tmp_path)) > sys.path.index(library)
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
        ("raise GeneratorExit", "cannot be imported: GeneratorExit"),
        ("class Odd(Exception):\n __str__ = None\nraise Odd", "Odd: (its text cannot be had"),
        ("def __getattr__(name): raise OSError(name)", "cannot be looked at: OSError: f ("),
        ("class C:\n __call__ = property(lambda _: 1 / 0)\nf = C()", "cannot be looked at: Zero"),
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
        ("def f(row, k=3, wrapper=None): ...", "step", True),
        ("def f(row, *, wrapper): ...", "step", True),
        ("def f(text, k=3, *, row=None): ...", "extractor", True),
        ("class C:\n def __call__(self, row, wrapper): ...\nf = C()", "step", True),
        ("class C:\n @staticmethod\n def g(row): ...\nf = C.g", "step", False),
    ],
)
def test_the_second_argument_goes_to_who_needs_it_or_names_it(
    write: Write, text: str, role: Role, takes_second: bool
) -> None:
    assert load(write(text), role).takes_second is takes_second


@pytest.mark.parametrize("end", ["k=3, wrapper=None", "*, wrapper", "wrapper, k=3"])
def test_it_is_passed_where_it_is_named(write: Write, end: str) -> None:
    assert load(write(f"def f(row, {end}): return [row, wrapper]")).call(1, 2) == [1, 2]


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
    edited = load(access)
    assert edited.digest != imported.digest
    assert (imported.call({}), edited.call({})) == ({"x": 3}, {"x": 4})


def test_what_runs_is_what_was_digested(write: Write, tmp_path: Path) -> None:
    write("def f(row): return 1")
    file = tmp_path / "lib_of_test.py"
    before = file.stat()
    py_compile.compile(str(file))
    access = write("def f(row): return 2")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert load(access).call({}) == 2


def test_what_was_imported_before_does_not_count(write: Write) -> None:
    access = write("def f(row): return 1")
    access.enter()
    importlib.import_module("lib_of_test")
    write("def f(row): return 2")
    assert load(access).call({}) == 2


def test_two_specs_may_have_modules_of_one_name(tmp_path: Path, write: Write) -> None:
    write("")
    made = []
    for name in ("one", "two", "one"):
        pack = tmp_path / name / "pack_of_test"
        pack.mkdir(parents=True, exist_ok=True)
        (pack / "__init__.py").write_text(f"name = {name!r}")
        (pack / "inner.py").write_text("from pack_of_test import name\ndef f(row): return name")
        access = PythonAccess.of(is_allowed=True, folders=[tmp_path / name])
        made.append(load_hook("pack_of_test.inner:f", "step", access))
    assert [hook.call({}) for hook in made] == ["one", "two", "one"]


def test_a_module_may_be_in_a_zip_file(tmp_path: Path, write: Write) -> None:
    write("")
    access = PythonAccess.of(is_allowed=True)
    object.__setattr__(access, "folders", (str(tmp_path / "lib.zip"),))
    made = []
    for number in (1, 2):
        with zipfile.ZipFile(tmp_path / "lib.zip", "w") as file:
            file.writestr("zip_of_test.py", f"def f(row): return {number}")
        made.append(load_hook("zip_of_test:f", "step", access))
    assert [hook.call({}) for hook in made] == [1, 2]
    assert made[0].digest != made[1].digest != ""


def test_a_module_may_be_in_folders_that_are_no_packages(tmp_path: Path, write: Write) -> None:
    access = write("")
    (tmp_path / "outer_of_test" / "inner").mkdir(parents=True)
    (tmp_path / "outer_of_test" / "inner" / "own.py").write_text("def f(row): return 1")
    assert load_hook("outer_of_test.inner.own:f", "step", access).call({}) == 1


def test_a_module_that_fails_leaves_the_one_before(write: Write) -> None:
    load(write("def f(row): return 1"))
    before = sys.modules["lib_of_test"]
    complaint(write("1 / 0"))
    assert sys.modules["lib_of_test"] is before


def test_what_is_built_into_python_may_be_named_and_has_the_digest_of_its_version() -> None:
    hook = load_hook("math:sqrt", "extractor", PythonAccess.of(is_allowed=True))
    assert hook.call(4) == 2
    assert hook.digest


def test_what_a_function_raises_is_told_with_its_type_text_and_line(write: Write) -> None:
    access = write("def f(row):\n    return g(row)\ndef g(row):\n    return row['no\\x1b']")
    with pytest.raises(HookFault) as fault:
        load(access).call({})
    told = str(fault.value)
    assert told.startswith("lib_of_test:f: KeyError: 'no\\x1b' (")
    assert told.endswith("lib_of_test.py:4)")


@pytest.mark.parametrize(
    "error", ["SystemExit(1)", "KeyboardInterrupt", "MemoryError", "GeneratorExit", "BaseException"]
)
def test_a_function_ends_no_process(write: Write, error: str) -> None:
    with pytest.raises(HookFault, match=error.partition("(")[0]):
        load(write(f"def f(row): raise {error}")).call({})


def test_an_exception_without_a_text_is_told_by_its_type(write: Write) -> None:
    access = write("class Odd(Exception):\n __str__ = None\ndef f(row): raise Odd")
    with pytest.raises(HookFault, match=r"lib_of_test:f: Odd: \(its text cannot be had"):
        load(access).call({})


def test_a_value_that_fails_when_it_is_looked_at_is_a_fault(write: Write) -> None:
    access = write("class Odd(dict):\n def items(self): raise SystemExit\ndef f(row): ...")
    hook = load(access)
    odd = sys.modules["lib_of_test"].Odd({"a": 1})
    with pytest.raises(HookFault, match="lib_of_test:f: SystemExit"):
        hook.taken(plain, odd)


def test_a_value_error_of_an_extractor_is_its_word_about_the_reply(write: Write) -> None:
    access = write("def f(text): raise ValueError('no date in it')")
    with pytest.raises(ValueError, match="no date in it"):
        load(access, "extractor").call("")
    with pytest.raises(HookFault):
        load(access, "transform").call({})
