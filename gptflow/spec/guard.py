"""What a spec must not touch, whoever wrote it: files of the system, of gptflow, and keys.

A spec may come from somebody else, and its rows go to a model. It says in its own words which
files are its data; what nobody takes for data is refused, by whatever link it is named.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gptflow.files import real
from gptflow.spec.companion import companions
from gptflow.spec.origin import KeyPath

CONFIG = Path("config.json")
"""The file of keys that a command looks for in its working directory."""

_SYSTEM = tuple(map(Path, ("/proc", "/sys", "/dev")))
_KEY_NAME = re.compile(
    r"API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|SECRET|PASSW|PASSPHRASE|CREDENTIAL|(?:^|_)(?:KEY|TOKEN)$",
    re.IGNORECASE,
)
_API_KEY_NAME = re.compile(r"API_?KEY", re.IGNORECASE)
_SECRET_PLACES = (("notify", "lark", "hook"), ("notify", "lark", "secret"))


def is_of_system(path: Path) -> bool:
    """Whether a path leads to what the kernel tells of processes and devices."""
    return any(real(path).is_relative_to(folder) for folder in _SYSTEM)


def own_files(data: Any, folder: Path, spec_file: str) -> dict[Path, str]:
    """The files that a spec's run is made of, with what each is; no output may replace one."""
    files = {real(CONFIG): "the file of keys", real(Path(spec_file)): "the spec"}
    templates = data.get("templates")
    for name in _file_references(data):
        for root in (folder, folder / templates if isinstance(templates, str) else folder):
            files[real(root / name)] = "part of the spec"
    return files


def foreign_links(output: Path) -> Iterator[Path]:
    """The files beside an output that a run writes and that are links: to where, it cannot say."""
    return (path for path in companions(output) if path.is_symlink() and path.suffix != ".part")


def may_name(variable: str, path: KeyPath) -> bool:
    """Whether a spec may read a variable of the environment at a place.

    Keys stand in config.json, and a value of the spec goes to the model and into the store. The
    hook and the secret of Lark are veiled, and may be read; no API key is one of these.
    """
    if path in _SECRET_PLACES:
        return not _API_KEY_NAME.search(variable)
    return not _KEY_NAME.search(variable)


def _file_references(data: Any) -> Iterator[str]:
    """The names in every {file: ...} of the steps."""
    waiting = [data.get("steps")]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            name = node.get("file")
            if len(node) == 1 and isinstance(name, str) and "\0" not in name:
                yield name
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node
