"""The files and folders that a spec names: all relative to the spec's own folder."""

from __future__ import annotations

import glob
import os.path
from collections.abc import Iterable
from pathlib import Path

from gptflow.files import real
from gptflow.spec.model import Spec

STANDARD_INPUT = "-"


def resolve_source(spec: Spec) -> list[Path]:
    """The source's files, in order: as listed, and those of a glob sorted. Path("-") is stdin.

    Empty for a source that is not in files. A file that does not exist is listed all the same.
    """
    return [
        path
        for pattern in source_patterns(spec.source.path)
        for path in matching(spec.folder, pattern)
    ]


def resolve_output(spec: Spec) -> Path:
    """The file that the finished rows go to."""
    return output_path(spec.folder, spec.output.path, spec.name)


def is_sharded(spec: Spec) -> bool:
    """Whether each file of the source has an output of its own, in the folder that is named."""
    return is_folder_name(spec.output.path)


def is_folder_name(path: object) -> bool:
    """Whether an `output.path` means a folder: it ends with a slash."""
    return isinstance(path, str) and path.endswith("/")


def source_root(spec: Spec) -> Path:
    """The folder that all files of the source are below, as far as the spec's words tell it.

    It is the same whatever files are there: what is called by a path from here keeps its name.
    """
    roots = []
    for pattern in source_patterns(spec.source.path):
        literal = spec.folder / pattern
        while glob.has_magic(str(literal.relative_to(spec.folder))) and not literal.exists():
            literal = literal.parent
        is_file = literal.suffix.lower() == ".parquet" and not literal.is_dir()
        roots.append(real(literal.parent if is_file else literal))
    return Path(os.path.commonpath(roots))


def templates_folder(spec: Spec) -> Path:
    """The folder that templates are looked up in."""
    return spec.folder / (spec.templates or "")


def source_patterns(path: str | Iterable[str] | None) -> list[str]:
    """The entries of `source.path`, whichever form it has."""
    if path is None:
        return []
    return [path] if isinstance(path, str) else list(path)


def matching(folder: Path, pattern: str) -> list[Path]:
    """The files that one entry of `source.path` means. Only a glob can match none.

    A folder stands for its Parquet files; one without any is given as it is.
    """
    if pattern == STANDARD_INPUT:
        return [Path(STANDARD_INPUT)]
    literal = folder / pattern
    # os.path, unlike Path, takes a name that no file can have (too long) for one that does not.
    if not glob.has_magic(pattern) or os.path.exists(literal):  # noqa: PTH110 (see above)
        return (os.path.isdir(literal) and parquet_files(literal)) or [literal]  # noqa: PTH112 (see above)
    names = glob.glob(pattern, root_dir=folder, recursive=True)  # noqa: PTH207 (needs root_dir)
    # A link that leads nowhere stays in: it is missing data, not another kind of thing.
    return [path for path in (folder / name for name in sorted(names)) if not path.is_dir()]


def parquet_files(folder: Path) -> list[Path]:
    """The Parquet files in a folder and in those below it, sorted.

    What begins with a dot or an underscore is none of the data, as Spark and Hive have it.
    """
    found = [path.relative_to(folder) for path in folder.rglob("*") if _is_parquet(path)]
    return [folder / path for path in sorted(found) if not any(map(_is_hidden, path.parts))]


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() == ".parquet" and not path.is_dir()


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "_"))


def output_path(folder: Path, path: str | None, name: str) -> Path:
    """The output's file, for an `output.path` that may be left out."""
    return real(folder / (path or f"out/{name}.jsonl"))


def leaves_project(folder: Path, path: str) -> bool:
    """Whether a relative path leads out of the project, be it through a symbolic link.

    The project is the working directory if the spec lies in it, else the spec's folder.
    """
    here = Path.cwd().resolve()
    root = here if folder.is_relative_to(here) else folder
    return not Path(path).is_absolute() and not real(folder / path).is_relative_to(root)
