from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from gptflow.data.sources.files import FileSource, InputFile

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": lambda data: gzip.compress(data, mtime=0),  # the same at any time, as names of tests are
    ".zst": lambda data: zstandard.ZstdCompressor().compress(data),
}


@pytest.fixture
def pack() -> Callable[[bytes, str], bytes]:
    """Data as the given suffix packs it."""
    return lambda data, suffix: PACKERS[suffix](data)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., FileSource]:
    """Writes files into the working directory, and opens them as one source."""
    monkeypatch.chdir(tmp_path)

    def write(**files: bytes | str) -> FileSource:
        inputs = []
        for name, content in files.items():
            path = tmp_path / name.replace("__", ".")
            path.write_bytes(content.encode() if isinstance(content, str) else content)
            inputs.append(InputFile.of(path))
        return FileSource(inputs)

    return write
