"""`audit doctor`: is this machine able to run an audit; and does this model fit this data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from audit.cli.options import ConfigFile, Out, command
from audit.cli.terminal import Terminal
from audit.config.flags import SUBJECT_FLAGS

if TYPE_CHECKING:
    from audit.runs.doctor import Diagnostic
    from audit.runs.model_diagnostics import ModelDiagnostics

_MARKS = {True: "[green]ok[/]     ", False: "[red]{bad}[/]", None: "[dim]{optional}[/] "}


@command(*SUBJECT_FLAGS)
def doctor(
    terminal: Terminal, overrides: dict[str, Any], config: ConfigFile = None, out: Out = Path("audit-run")
) -> None:
    """Look at Python, packages, device and disk; exit 5 when something an audit needs is missing.

    With a model, look at it beside the data instead: which preparation of the images fits it best and by how much,
    whether its outputs are in the order of the classes, whether it stays in eval mode, answers the same every time,
    and has gradients that tell the truth. Exit 1 when something does not fit.

    [bold]Examples[/]

      audit doctor

      audit doctor --device cuda --json

      audit doctor --model net.pt --architecture cnn-28 --data folder:photos
    """
    if config is None and not overrides.keys() & {"data", "model"}:
        from audit.runs.doctor import diagnose_machine

        machine = diagnose_machine(overrides.get("device", "auto"), out)
        terminal.emit({"examined": _rows(machine)}, lambda: _show(machine, terminal, "missing", "absent"))
        if any(item.fine is False for item in machine):
            raise typer.Exit(5)
        return

    from audit.config import load_config
    from audit.runs.model_diagnostics import diagnose_model

    diagnostics = diagnose_model(load_config(config, overrides=overrides))
    terminal.emit(_as_document(diagnostics), lambda: _show_model(diagnostics, terminal))
    if any(item.fine is False for item in diagnostics.examined):
        raise typer.Exit(1)


def _rows(examined: Sequence[Diagnostic]) -> list[dict[str, object]]:
    return [{"what": item.what, "found": item.observed, "fine": item.fine} for item in examined]


def _show(examined: Sequence[Diagnostic], terminal: Terminal, bad: str, optional: str) -> None:
    from rich.markup import escape

    for item in examined:
        mark = _MARKS[item.fine].format(bad=bad, optional=optional)
        terminal.stdout.print(f"{mark}  [bold]{item.what}[/]  {escape(item.observed)}", soft_wrap=True)


def _show_model(diagnostics: ModelDiagnostics, terminal: Terminal) -> None:
    from rich.markup import escape

    _show(diagnostics.examined, terminal, "doubt  ", "note  ")
    terminal.stdout.print(f"\nRight on {diagnostics.n} test images:")
    for fit in diagnostics.fits:
        share = "refused" if fit.accuracy is None else f"{fit.accuracy:7.0%}"
        terminal.stdout.print(f"  {share}  {escape(fit.preparation)}", soft_wrap=True)


def _as_document(diagnostics: ModelDiagnostics) -> dict[str, object]:
    return {
        "examined": _rows(diagnostics.examined),
        "images": diagnostics.n,
        "preparations": [vars(fit) for fit in diagnostics.fits],
        "advice": diagnostics.advice,
    }
