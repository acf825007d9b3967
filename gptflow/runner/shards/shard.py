"""A shard: a file of the source, with the files that come of it, and the marker that it is done."""

from __future__ import annotations

from pathlib import Path

import msgspec

from gptflow.data.sinks.failed import failed_path
from gptflow.data.sinks.whole import WholeFile
from gptflow.data.sources.parquet import ParquetWalk
from gptflow.data.sources.wanted import Wanted
from gptflow.errors import DataError, UsageError
from gptflow.files import real
from gptflow.pipeline.identity import digest_of
from gptflow.pipeline.texts import shown_path
from gptflow.runner.prepare import STORE_FOLDER, Prepared
from gptflow.spec.companion import simulated_path
from gptflow.spec.paths import resolve_output, resolve_source, source_root
from gptflow.store.record import FailureGroup, ModelUsage


class Shard(msgspec.Struct, frozen=True):
    """A file of the source, and where what comes of it lies. All paths are absolute."""

    name: str
    """Its path below the folder that all have in common, without the ending."""
    source: str
    path: str
    """Of the output, as a spec would name it."""
    output: str
    """Where it is: simulated rows never take the place of real ones."""
    store: str
    rows: int
    """Records of the file."""
    wanted: str
    """Digest of all that decides what its output is, but for the file itself."""

    @property
    def marker_path(self) -> Path:
        """The file that says that the shard is done."""
        return Path(self.output).with_suffix(".committed")


class Marker(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a shard; written when its output is in its place."""

    rows: int
    done: int
    failed: int
    reused_rows: int = 0
    failures: list[FailureGroup] = []
    """Failed rows by reason, the most frequent first."""
    usage: list[ModelUsage] = []
    """What its run has used, as far as the server told."""
    wanted: str
    source: str
    """The `look` of the file."""


def look(path: Path) -> str:
    """Says, without reading a file, that it is the one of an earlier look.

    Raises:
        DataError: it is not there.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise DataError(
            f"{path}: {error.strerror}",
            hint="the files of a run shard by shard must be at the same path on every node",
        ) from None
    return f"{found.st_size}:{found.st_mtime_ns}"


def read_marker(shard: Shard) -> Marker | None:
    """What came of a shard; None while it is not done, or where another output is wanted now."""
    try:
        marker = msgspec.json.decode(shard.marker_path.read_bytes(), type=Marker)
    except (OSError, msgspec.DecodeError):
        return None
    is_same = (marker.wanted, marker.source) == (shard.wanted, look(Path(shard.source)))
    return marker if is_same and Path(shard.output).is_file() else None


def write_marker(shard: Shard, marker: Marker) -> None:
    """Says that a shard is done. On return this outlives a power cut."""
    with WholeFile(shard.marker_path) as whole:
        whole.stream.write(msgspec.json.format(msgspec.json.encode(marker)) + b"\n")
        whole.commit()


def shards_of(prepared: Prepared, stores: Path | None) -> list[Shard]:
    """The shards of a run, in the order of the source. Each file is looked at.

    `stores`: the folder for their stores; without it .gptflow in the folder of the outputs.

    Raises:
        UsageError: the spec asks for what cannot be kept shard by shard, or a file would be
            written over.
        DataError: a file is not Parquet, or has other columns than the first.
    """
    _refuse_unfit(prepared)
    folder, root = resolve_output(prepared.spec), source_root(prepared.spec)
    stores = real(stores or folder / STORE_FOLDER)
    wanted = _wanted(prepared)
    walk, shards = ParquetWalk(), []
    for path in map(real, resolve_source(prepared.spec)):
        name = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
        output = folder / name.with_suffix(".parquet")
        simulated = simulated_path(output) if prepared.choice.mock else output
        shards.append(
            Shard(
                name=str(name.with_suffix("")),
                source=str(path),
                path=str(output),
                output=str(simulated),
                store=str(stores / name.with_suffix(".db")),
                rows=_rows(walk, path),
                wanted=wanted,
            )
        )
    _refuse_clashes(shards)
    return shards


def _refuse_unfit(prepared: Prepared) -> None:
    source = prepared.spec.source
    for name in ("limit", "sample", "transform"):
        if getattr(source, name) is not None:
            raise UsageError(
                f"source.{name} cannot be kept shard by shard",
                hint="leave it out, or name a file in output.path: then the run is a single one",
            )
    for path in resolve_source(prepared.spec):
        if path.suffix.lower() != ".parquet":
            raise UsageError(
                f"{shown_path(path)}: shards are files of Parquet",
                hint="name a file in output.path, with .parquet at its end: it takes any source",
            )


def _rows(walk: ParquetWalk, path: Path) -> int:
    """How many records a file has; its columns are compared with those of the first."""
    records = walk.records(path, shown_path(path), 0, Wanted(()))
    try:
        next(records)
    except StopIteration as end:
        return int(end.value)
    raise AssertionError(path)


def _wanted(prepared: Prepared) -> str:
    spec = prepared.spec
    select = spec.source.model_dump(include={"id", "where"})
    known = [prepared.plan.digest, select, spec.output.columns, prepared.choice.name]
    return digest_of(known)


def _refuse_clashes(shards: list[Shard]) -> None:
    sources = {shard.source: shard for shard in shards}
    outputs: dict[str, Shard] = {}
    for shard in shards:
        other = outputs.setdefault(shard.output, shard)
        if other is not shard:
            raise UsageError(
                f"{shard.source} and {other.source} would both be written to {shard.output}",
                hint="rename one of them, or put both below one folder of source.path",
            )
        for path in (Path(shard.output), failed_path(Path(shard.output)), shard.marker_path):
            if str(real(path)) in sources:
                raise UsageError(
                    f"{path} is read as source, and would be written over",
                    hint="give the outputs a folder of their own",
                )
