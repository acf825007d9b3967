"""gptflow init: a spec, a prompt, data and config that run as they are."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

import click

from gptflow.cli.options import debug_option
from gptflow.errors import UsageError


@click.command("init")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path())
@debug_option
def command(folder: Path) -> int:
    """Make a spec, a prompt and data in FOLDER, by default here. No file is overwritten.

    \b
    gptflow init demo && cd demo
    gptflow run pipeline.yaml --mock
    """
    with as_file(files("gptflow.cli") / "starter") as starter:
        sources = sorted(path for path in starter.rglob("*") if path.is_file())
        targets = {source: folder / source.relative_to(starter) for source in sources}
        taken = [str(target) for target in targets.values() if target.exists()]
        if taken:
            raise UsageError(
                f"already there: {', '.join(taken)}", hint="gptflow init ANOTHER_FOLDER"
            )
        for source, target in targets.items():
            _copy(source, target)
            click.echo(f"  {target}")
    here = "" if folder == Path() else f"cd {folder} && "
    click.echo(f"next: {here}gptflow run pipeline.yaml --mock")
    return 0


def _copy(source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:  # "x": nothing is overwritten, whoever made it meanwhile
            file.write(source.read_bytes())
    except OSError as error:
        raise UsageError(f"{target}: cannot be written: {error.strerror}") from None
