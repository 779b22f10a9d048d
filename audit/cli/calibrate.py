"""`audit calibrate`: a checkpoint whose confidence can be believed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit.cli.options import command
from audit.cli.terminal import Terminal

if TYPE_CHECKING:
    from audit.core.statistics import Interval
    from audit.runs.calibrate import Calibrated


@command("seed", "device", "data", "model", without=("model.weights", "model.pretrained"))
def calibrate(
    terminal: Terminal,
    overrides: dict[str, Any],
    checkpoint: Annotated[str, typer.Argument(help="The checkpoint; it is left as it is.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="The .safetensors file to write.")] = Path(
        "calibrated.safetensors"
    ),
) -> None:
    """Fit a temperature on held-out images, and write a checkpoint with it inside.

    The logits are divided by one number, so that confidences agree with how often they are right; predictions do not
    change. It is fitted on one half of the test images of --data and judged on the other half, and is put into the
    weights of the last layer: whatever loads OUT applies it. Where it does not lower the negative log-likelihood on the
    other half, a note says so; OUT is written all the same.

    [bold]Examples[/]

      audit calibrate audit-run/models/standard.safetensors -o calibrated.safetensors

      audit calibrate net.pt --architecture cnn-32 --data folder:photos --out net-calibrated.safetensors
    """
    from audit.config import load_config, merge
    from audit.runs.calibrate import calibrate_checkpoint

    config = load_config(
        overrides=merge(overrides, {"model": {"weights": checkpoint}, "hardening": {"enabled": False}})
    )
    outcome = calibrate_checkpoint(config, out)
    terminal.emit(_document(outcome), lambda: _show(outcome, terminal))


def _document(outcome: Calibrated) -> dict[str, Any]:
    def bounds(value: Interval) -> dict[str, float]:
        return {"estimate": value.estimate, "low": value.low, "high": value.high}

    def both(before: Interval, after: Interval) -> dict[str, Any]:
        return {"before": bounds(before), "after": bounds(after)}

    return {
        "temperature": outcome.temperature,
        "fitted_on": outcome.fitted_on,
        "judged_on": outcome.error_before.n,
        "accuracy": outcome.accuracy,
        "calibration_error": both(outcome.error_before, outcome.error_after),
        "negative_log_likelihood": {
            **both(outcome.likelihood_before, outcome.likelihood_after),
            "change": bounds(outcome.likelihood_change),
        },
        "notes": list(outcome.notes),
        "weights": str(outcome.path),
    }


def _show(outcome: Calibrated, terminal: Terminal) -> None:
    from rich.markup import escape

    def line(name: str, before: Interval, after: Interval, form: str) -> str:
        told = (f"{i.estimate:{form}} ({i.low:{form}} to {i.high:{form}})" for i in (before, after))
        return f"  {name:<26}{'   ->   '.join(told)}"

    terminal.stdout.print(
        f"Temperature [bold]{outcome.temperature:.4f}[/], fitted on {outcome.fitted_on} images and judged on "
        f"{outcome.error_before.n} others; accuracy {outcome.accuracy:.1%}, unchanged.",
        soft_wrap=True,
    )
    for text in (
        line("Calibration error", outcome.error_before, outcome.error_after, ".1%"),
        line("Negative log-likelihood", outcome.likelihood_before, outcome.likelihood_after, ".4f"),
    ):
        terminal.stdout.print(text, soft_wrap=True)
    terminal.stdout.print(f"Weights: [bold]{escape(str(outcome.path))}[/]", soft_wrap=True)
    for sentence in outcome.notes:
        terminal.stdout.print(f"[yellow]note[/]  {escape(sentence)}", soft_wrap=True)
