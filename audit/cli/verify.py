"""`audit verify`: a public verification instance decided, sat, unsat or unknown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit.cli.options import command, parse_duration
from audit.cli.terminal import Terminal

if TYPE_CHECKING:
    from audit.bounds.verification import VerificationResult

_EXIT_CODES = {"unsat": 0, "sat": 1, "unknown": 3}


@command()
def verify(
    terminal: Terminal,
    net: Annotated[Path, typer.Argument(help="An .onnx file, or .onnx.gz.", show_default=False)],
    specification: Annotated[
        Path, typer.Argument(help="A property in VNN-LIB 1.0 or 2.0: .vnnlib or .vnnlib.gz.", show_default=False)
    ],
    timeout: Annotated[str, typer.Option("--timeout", help="After which it is unknown: 60, 90s, 10m.")] = "60",
    counterexample: Annotated[
        Path | None, typer.Option("--counterexample", help="Where a counterexample is written.", show_default=False)
    ] = None,
) -> None:
    """Decide a verification instance: has the property an input whose outputs meet it?

    The first line is sat, followed by the counterexample; unsat, which is proven; or unknown. Exit 0 for unsat, 1 for
    sat, 3 for unknown: also where the net has a layer that bounds do not know, which is named. A counterexample has the
    form of the verification competition: ((X_0 value) ... (Y_0 value)).

    [bold]Examples[/]

      audit verify ACASXU_run2a_1_1_batch_2000.onnx prop_3.vnnlib

      audit verify net.onnx.gz property.vnnlib.gz --timeout 5m --counterexample counterexample.txt
    """
    from audit.bounds.verification import verify_instance
    from audit.core.errors import UsageError
    from audit.storage.store import write_atomically

    seconds = parse_duration(timeout, "--timeout")
    if not seconds or seconds <= 0:
        raise UsageError(f"--timeout {timeout!r}: a time above 0 was expected, as in 90s or 10m.")
    if counterexample is not None and counterexample.is_dir():
        raise UsageError(f"--counterexample {counterexample} is a folder, where the name of a file was expected.")
    result = verify_instance(net, specification, seconds=seconds)
    text = ""
    if result.counterexample is not None:
        text = result.counterexample.text()
        if counterexample is not None:
            write_atomically(counterexample, text, flag="--counterexample")
    terminal.emit(_as_document(result, net, specification), lambda: _show(terminal, result, text))
    if result.verdict != "unsat":
        raise typer.Exit(_EXIT_CODES[result.verdict])


def _show(terminal: Terminal, result: VerificationResult, text: str) -> None:
    typer.echo(result.verdict)
    if text:
        typer.echo(text, nl=False)
    if result.reason:
        from rich.markup import escape

        terminal.info(escape(result.reason))


def _as_document(result: VerificationResult, net: Path, specification: Path) -> dict[str, Any]:
    found = result.counterexample
    return {
        "net": str(net),
        "specification": str(specification),
        "verdict": result.verdict,
        "counterexample": None if found is None else {"X": found.inputs, "Y": found.outputs},
        "reason": result.reason,
        "parts": result.parts,
        "seconds": round(result.seconds, 3),
    }
