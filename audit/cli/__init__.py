"""The command line: one file a command, its machinery imported inside it, so that `--help` is quick."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from audit.cli.app import app
    from audit.cli.startup import tune_malloc

    tune_malloc()
    app(prog_name="audit")
