"""The program, as `gptflow` or `python -m gptflow`: it heeds signals from the first import on."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress

from gptflow.runner.signals import Interrupted, raising_signals


def main() -> None:
    """Runs the command line and exits the process; the entry point of `gptflow`."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # before and after, no traceback is shown
    try:
        with raising_signals():
            from gptflow.cli.main import main as command_line

            command_line()
    except Interrupted as interruption:  # while it was imported, or after the verb had ended
        with suppress(OSError, AttributeError):  # nobody listens, or there is no stream
            sys.stderr.write(f"{interruption.words}\n")
        sys.exit(interruption.exit_code)


if __name__ == "__main__":
    if not sys.flags.safe_path:
        # python -m puts the working directory before all others: a file there would be taken for
        # a package of that name. As `gptflow`, which does not, the program is the same.
        del sys.path[0]
    main()
