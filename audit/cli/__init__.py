"""The command line: one file a command, its machinery imported inside it, so that `--help` is quick."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from audit.core.startup import prepare_process

    prepare_process()
    from audit.cli.app import app

    app(prog_name="audit")
