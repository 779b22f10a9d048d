"""`audit doctor`: is this machine able to run an audit, and how."""

from __future__ import annotations

from pathlib import Path

from audit.cli import options as flag
from audit.cli.voice import speaking


def doctor(
    out: flag.Out = Path("audit-run"),
    device: flag.Device = None,
    as_json: flag.AsJson = False,
    quiet: flag.Quiet = False,
    verbose: flag.Verbose = False,
    no_color: flag.NoColor = False,
) -> None:
    """Look at Python, packages, device, memory and disk; exit 5 when something an audit needs is missing.

    [bold]Examples[/]

      audit doctor

      audit doctor --device cuda --json
    """
    with speaking(as_json=as_json, quiet=quiet, verbose=verbose, no_color=no_color) as voice:
        import typer
        from rich.markup import escape

        from audit.job.doctor import examine

        examined = examine(device or "auto", out)
        marks = {True: "[green]ok[/]     ", False: "[red]missing[/]", None: "[dim]absent[/] "}

        def show() -> None:
            for one in examined:
                voice.out.print(f"{marks[one.fine]}  [bold]{one.what}[/]  {escape(one.found)}", soft_wrap=True)

        voice.give({"examined": [vars(one) for one in examined]}, show)
        if any(one.fine is False for one in examined):
            raise typer.Exit(5)
