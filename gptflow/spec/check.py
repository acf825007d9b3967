"""What a spec's data can be told apart from its types: names, models, files.

These checks read the data, not the models, so that they have their say beside problems of type.
Whatever is of a wrong type they pass over: it is reported already.
"""

from __future__ import annotations

import os.path
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

from gptflow.files import real
from gptflow.spec.companion import companions
from gptflow.spec.expectation import either
from gptflow.spec.guard import CONFIG, foreign_links, is_of_system, own_files
from gptflow.spec.model import RESERVED_NAMES, OutputFormat, SourceFormat
from gptflow.spec.origin import KeyPath, Origin
from gptflow.spec.parameters import HINTS
from gptflow.spec.paths import (
    STANDARD_INPUT,
    is_folder_name,
    leaves_project,
    matching,
    output_path,
)
from gptflow.spec.problems import Problem, did_you_mean

_COMPRESSIONS = (".gz", ".zst")
PARQUET_EXTRA = 'pip install "gptflow[parquet]"'


def name_problems(data: Any, origin: Origin) -> list[Problem]:
    """Names that two steps or two fields bear, or that templates have taken."""
    return [
        *_duplicates(origin, list(_step_names(data)), key=False),
        *_duplicates(origin, list(_field_names(data)), key=True),
        *_reserved(origin, _step_names(data), key=False),
        *_reserved(origin, _field_names(data), key=True),
        *_reserved(origin, ((("vars", name), name) for name in _mapping(data, "vars")), key=True),
    ]


def model_problems(data: Any, origin: Origin) -> list[Problem]:
    """Steps that no model answers. One problem stands for all, if `model` is there to mend."""
    model = data.get("model")
    if not _lacks_name(model):
        return []
    asking = [(index, step) for index, step in _steps(data) if "python" not in step]
    lacking = [
        index for index, step in asking if _lacks_name(step.get("model")) or not step.get("model")
    ]
    if not lacking:
        return []
    hint = "add a line such as `model: {name: gpt-4o-mini}`"
    if model is not None or len(lacking) == len(asking):
        place = origin.place(("model",), key=True)
        return [Problem("no model is named", place, hint)]
    return [
        Problem("no model is named for this step", origin.place(("steps", index, "name")), hint)
        for index in lacking
    ]


def workers_problems(data: Any, origin: Origin) -> list[Problem]:
    """A range of workers that ends before it begins."""
    workers = _mapping(_mapping(data, "parallelism"), "workers")
    least, most = workers.get("min"), workers.get("max")
    if not (isinstance(least, int) and isinstance(most, int) and most < least):
        return []
    place = origin.place(("parallelism", "workers", "max"))
    return [Problem(f"max is {most}, below min, {least}", place, "exchange the two")]


def file_problems(data: Any, origin: Origin, unknown: AbstractSet[KeyPath]) -> list[Problem]:
    """Files that are missing, of no known format, or where they must not be.

    `unknown`: paths of strings that name a variable that the environment does not have.
    """
    checker = _FileChecker(data, origin, unknown)
    checker.source()
    checker.templates()
    checker.output()
    return checker.problems


def _mapping(data: Any, key: str | int) -> dict[str, Any]:
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def _steps(data: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    steps = data.get("steps")
    for index, step in enumerate(steps if isinstance(steps, list) else ()):
        if isinstance(step, dict):
            yield index, step


def _step_names(data: Any) -> Iterator[tuple[KeyPath, str]]:
    for index, step in _steps(data):
        if isinstance(step.get("name"), str):
            yield ("steps", index, "name"), step["name"]


def _field_names(data: Any) -> Iterator[tuple[KeyPath, str]]:
    for index, step in _steps(data):
        for name in _mapping(step, "extract"):
            yield ("steps", index, "extract", name), name
        fields = step.get("fields")
        for place, name in enumerate(fields if isinstance(fields, list) else ()):
            if isinstance(name, str):
                yield ("steps", index, "fields", place), name


def _duplicates(
    origin: Origin, names: list[tuple[KeyPath, str]], *, key: bool
) -> Iterator[Problem]:
    first: dict[str, KeyPath] = {}
    for path, name in names:
        known = first.setdefault(name, path)
        if known != path:
            place = origin.place(known, key=key)
            where = f", the first in line {place.line}" if place.line else ""
            message = f"two {'fields' if key else 'steps'} are named '{name}'{where}"
            yield Problem(message, origin.place(path, key=key), "rename one of them")


def _reserved(
    origin: Origin, names: Iterator[tuple[KeyPath, str]], *, key: bool
) -> Iterator[Problem]:
    for path, name in names:
        if name in RESERVED_NAMES:
            message = f"'{name}' means something else in templates"
            hint = f"rename it: {', '.join(RESERVED_NAMES)} are taken"
            yield Problem(message, origin.place(path, key=key), hint)


def _lacks_name(model: object) -> bool:
    """Whether no name was given; a slip of `name` is another problem, which is reported."""
    if model is None:
        return True
    if not isinstance(model, dict) or model.get("name") is not None:
        return False
    slips = [
        key for key in model if HINTS.get(key) == HINTS["model"] or did_you_mean(key, ["name"])
    ]
    return not slips


class _FileChecker:
    """Looks at the disk for what the spec names."""

    def __init__(self, data: Any, origin: Origin, unknown: AbstractSet[KeyPath]) -> None:
        self.problems: list[Problem] = []
        self._data = data
        self._origin = origin
        self._folder = origin.folder
        self._unknown = unknown
        self._source_files: set[Path] = set()

    def source(self) -> None:
        source = _mapping(self._data, "source")
        path = source.get("path")
        place: KeyPath = ("source", "path")
        entries: list[tuple[KeyPath, Any]] = [(place, path)]
        if isinstance(path, list):
            entries = [((*place, index), entry) for index, entry in enumerate(path)]
        for place, entry in entries:
            name = self._usable(place, entry)
            if name and name != STANDARD_INPUT:
                self._source_entry(place, name, source.get("format"))

    def templates(self) -> None:
        folder = self._usable(("templates",), self._data.get("templates"))
        if folder and not _is_folder(self._folder / folder):
            hint = self._near(folder) or f"paths start from {self._folder}"
            self._add(("templates",), f"there is no folder '{folder}'", hint)
        elif folder and leaves_project(self._folder, folder):
            hint = "give an absolute path if that is meant"
            self._add(("templates",), f"'{folder}' leads out of the project", hint)

    def output(self) -> None:
        place: KeyPath = ("output", "path")
        given = _mapping(self._data, "output").get("path")
        if given is None:
            path = self._default_output()
            if leaves_project(self._folder, "out"):
                hint = "name an `output.path`; an absolute one if that is meant"
                self._add(place, "the folder out/ is a link out of the project", hint)
                return
            self._output_apart(("source", "path"), path)
            return
        text = self._usable(place, given)
        if not text:
            return
        path = output_path(self._folder, text, "")
        if is_folder_name(text):
            self._output_folder(place, text, path)
            return
        formats = get_args(OutputFormat)
        if path.suffix.lower().removeprefix(".") not in formats:
            endings = either(f".{name}" for name in formats)
            self._add(place, f"'{text}' tells no format", f"end it in {endings}")
        elif _lacks_package(path):
            self._add(place, "Parquet needs a package that is not installed", PARQUET_EXTRA)
        elif leaves_project(self._folder, text):
            hint = "give an absolute path if that is meant"
            self._add(place, f"'{text}' leads out of the project", hint)
        elif _is_folder(path):
            self._add(place, f"'{text}' is a folder", "name a file in it")
        else:
            self._output_apart(place, path)

    def _output_folder(self, place: KeyPath, text: str, path: Path) -> None:
        """A file for each file of the source: the work of a cluster."""
        if _mapping(self._data, "parallelism").get("mode") != "ray":
            message = f"'{text}' is a folder, for the outputs of a run shard by shard"
            self._add(place, message, "name a file in it, or run with --mode ray")
        elif _lacks_package(Path("shard.parquet")):
            self._add(place, "Parquet needs a package that is not installed", PARQUET_EXTRA)
        elif leaves_project(self._folder, text):
            hint = "give an absolute path if that is meant"
            self._add(place, f"'{text}' leads out of the project", hint)
        elif path.exists() and not path.is_dir():
            self._add(place, f"'{text}' is a file", "name a folder, or leave out the slash")

    def _default_output(self) -> Path:
        name = self._data.get("name")
        is_name = isinstance(name, str) and "\0" not in name
        return output_path(self._folder, None, name if is_name else "")

    def _output_apart(self, place: KeyPath, output: Path) -> None:
        """A run writes over nothing that it is made of, and through no link beside its output."""
        own = own_files(self._data, self._folder, self._origin.file)
        taken = next((own[path] for path in (output, *companions(output)) if path in own), None)
        link = next(foreign_links(output), None)
        if taken:
            hint = "give the output another name or folder"
            self._add(place, f"a run that writes '{self._shown(output)}' replaces {taken}", hint)
        elif link:
            message = f"'{self._shown(link)}', which a run writes too, is a link"
            self._add(place, message, "remove it, or give the output another name or folder")
        else:
            self._output_apart_from_source(place, output)

    def _output_apart_from_source(self, place: KeyPath, output: Path) -> None:
        """No file that a run writes or removes may be one that it reads."""
        if output in self._source_files:
            hint = "give the output a file of its own"
            self._add(place, f"'{self._shown(output)}' is read as source", hint)
            return
        # realpath, unlike resolve, takes a link that leads to itself.
        taken = [path for path in companions(output) if real(path) in self._source_files]
        if taken:
            written, read = self._shown(output), self._shown(taken[0])
            message = f"a run that writes '{written}' also writes '{read}', which is read as source"
            self._add(place, message, "give the output another name or folder, or move the source")

    def _shown(self, path: Path) -> str:
        folder = self._folder.resolve()
        return str(path.relative_to(folder) if path.is_relative_to(folder) else path)

    def _source_entry(self, place: KeyPath, entry: str, given_format: object) -> None:
        paths = matching(self._folder, entry)
        self._source_files |= {real(path) for path in paths}
        if not paths:
            message, hint = f"no file matches '{entry}'", f"paths start from {self._folder}"
        elif _is_folder(paths[0]):
            message = f"'{entry}' is a folder without .parquet files"
            hint = f"name a file, or all: {entry}/*.jsonl"
        elif missing := [path for path in paths if not _exists(path)]:
            is_named = missing[0] == self._folder / entry
            name = entry if is_named else os.path.relpath(missing[0], self._folder)
            message = f"there is no file '{name}'"
            hint = self._near(name) or f"paths start from {self._folder}"
        elif any(map(is_of_system, paths)):
            message = f"'{entry}' leads to the system's own files"
            hint = "copy what is to be asked about into a file"
        elif any(real(path) == real(CONFIG) for path in paths):
            message = f"'{entry}' leads to the file of keys"
            hint = "keys are never sent to a model: name a file of data"
        elif given_format is None and not all(map(_has_known_format, paths)):
            known = ", ".join(f".{name}" for name in get_args(SourceFormat))
            message = f"'{entry}' tells no format"
            hint = f"known are {known}, each also .gz or .zst; or give `format`"
        elif packed := next(filter(_is_packed_parquet, paths), None):
            message = f"'{packed.name}' is Parquet inside of {packed.suffix}"
            hint = "unpack it: Parquet packs its columns itself"
        elif given_format in (None, "parquet") and any(map(_lacks_package, paths)):
            message, hint = "Parquet needs a package that is not installed", PARQUET_EXTRA
        else:
            return
        self._add(place, message, hint)

    def _usable(self, path: KeyPath, value: object) -> str:
        """The value if it can be looked for on the disk, else "". Reports what no path can be."""
        if not isinstance(value, str) or path in self._unknown:
            return ""
        if value and "\0" not in value:
            return value
        self._add(path, "this is no path", "name a file, relative to the spec's folder")
        return ""

    def _near(self, entry: str) -> str | None:
        """A hint at the name in the same folder that may be meant."""
        wanted = Path(entry)
        folder = self._folder / wanted.parent
        names = [path.name for path in folder.iterdir()] if _is_folder(folder) else []
        near = did_you_mean(wanted.name, names)
        return f"did you mean '{wanted.with_name(near)}'?" if near else None

    def _add(self, path: KeyPath, message: str, hint: str) -> None:
        self.problems.append(Problem(message, self._origin.place(path), hint))


# os.path, unlike Path, takes a name that no file can have for one that none has.
def _exists(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110 (see above)


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 (see above)


def _has_known_format(path: Path) -> bool:
    name = path.name.lower()
    for ending in _COMPRESSIONS:
        name = name.removesuffix(ending)
    return name.rpartition(".")[2] in get_args(SourceFormat) and "." in name


def _is_packed_parquet(path: Path) -> bool:
    return path.name.lower().endswith(tuple(f".parquet{ending}" for ending in _COMPRESSIONS))


def _lacks_package(path: Path) -> bool:
    """Whether the file is one of Parquet, and nothing here can read or write it."""
    return path.suffix.lower() == ".parquet" and find_spec("pyarrow") is None
