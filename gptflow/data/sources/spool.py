"""Standard input, put on disk: it is read more than once, and can be read only once."""

from __future__ import annotations

import os
from hashlib import blake2b
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO

from gptflow.errors import DataError

CHUNK_BYTES = 1 << 20


def spool(stdin: BinaryIO, folder: Path, suffix: str) -> Path:
    """Copy standard input to a file in `folder` that is named after its content.

    The same content leads to the same file, untouched, so that a run that is started again with
    the same input goes on. The file can be read by its owner alone.

    Raises:
        DataError: standard input is a terminal.
    """
    if stdin.isatty():
        raise DataError(
            "the source is standard input, and that is a terminal",
            hint="pipe the data in: zcat data.jsonl.gz | gptflow run SPEC",
        )
    folder.mkdir(parents=True, exist_ok=True)
    digest = blake2b(digest_size=16)
    with NamedTemporaryFile(dir=folder, prefix="stdin-", suffix=".part", delete=False) as copy:
        part = Path(copy.name)
        try:
            while chunk := stdin.read(CHUNK_BYTES):
                digest.update(chunk)
                copy.write(chunk)
            copy.flush()
            os.fsync(copy.fileno())  # the run may be resumed from it after a power cut
            spooled = folder / f"stdin-{digest.hexdigest()}{suffix}"
            if not spooled.exists():
                part.replace(spooled)
        finally:
            part.unlink(missing_ok=True)
    return spooled
