"""Standard input, put on disk: it is read more than once, and can be read only once."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO

from gptflow.errors import DataError

CHUNK_BYTES = 1 << 20


def spool(stdin: BinaryIO, folder: Path, suffix: str) -> Path:
    """Copy standard input to a file in `folder` that is named after its content.

    It is there for this process alone, and can be read by its owner alone: a run that is started
    again is given its input again.

    Raises:
        DataError: standard input is a terminal, cannot be read, or cannot be put into the folder.
    """
    if stdin.isatty():
        raise DataError(
            "the source is standard input, and that is a terminal",
            hint="pipe the data in: zcat data.jsonl.gz | gptflow run SPEC",
        )
    try:
        spooled = _copied(stdin, folder, suffix)
    except OSError as error:
        raise DataError(
            f"the source is standard input, which cannot be copied to {folder}: "
            f"{error.strerror or error}",
            hint="run where files may be written and have room, or put the rows into a file and "
            "name it in source.path",
        ) from error
    atexit.register(spooled.unlink, missing_ok=True)
    return spooled


def _copied(stdin: BinaryIO, folder: Path, suffix: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    digest = blake2b(digest_size=16)
    with NamedTemporaryFile(dir=folder, prefix="stdin-", suffix=".part", delete=False) as copy:
        part = Path(copy.name)
        try:
            for chunk in _chunks(stdin):
                digest.update(chunk)
                copy.write(chunk)
            copy.flush()
            spooled = folder / f"stdin-{digest.hexdigest()}{suffix}"
            if not spooled.exists():
                part.replace(spooled)
        finally:
            part.unlink(missing_ok=True)
    return spooled


def _chunks(stdin: BinaryIO) -> Iterator[bytes]:
    try:
        while chunk := stdin.read(CHUNK_BYTES):
            yield chunk
    except OSError as error:
        raise DataError(
            f"the source is standard input, which broke off: {error.strerror or error}"
        ) from error
