"""`python -m gptflow` is `gptflow`."""

from __future__ import annotations

from gptflow.cli.main import main

main()
