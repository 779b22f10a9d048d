"""`audit log`: a finished run told to an experiment tracker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audit.cli.options import Run, command
from audit.cli.terminal import Terminal, document_path


@command()
def log_run(
    terminal: Terminal,
    run: Run = Path("audit-run"),
    to: Annotated[str, typer.Option("--to", help="mlflow, tensorboard, wandb or trackio.")] = "mlflow",
    at: Annotated[
        str,
        typer.Option(
            "--at",
            help="The address of the MLflow server, the folder of event files, or the Space of trackio.",
            show_default=False,
        ),
    ] = "",
    experiment: Annotated[str, typer.Option("--experiment", help="The experiment or project.")] = "audit",
    name: Annotated[
        str, typer.Option("--name", help="Name of the run; that of the model by default.", show_default=False)
    ] = "",
) -> None:
    """Log a finished run to a tracker: numbers with their intervals, parameters, tags and the report.

    Everything is read from audit.json. Each call logs a new run.

    [bold]Examples[/]

      audit log audit-run --to mlflow --at http://127.0.0.1:5000

      audit log audit-run --to tensorboard --at runs
    """
    from audit.report.document import read_document
    from audit.report.trackers.log_to import log_to
    from audit.report.trackers.tracked_run import tracked_run

    document = read_document(document_path(run))
    tracked = tracked_run(document, name)
    location = log_to(to, tracked, address=at, experiment=experiment)
    written = {"tracker": to, "run": tracked.name, "at": location, "metrics": dict(tracked.metrics)}
    terminal.emit(
        written,
        lambda: terminal.stdout.print(
            f"Logged to {to}: {len(tracked.metrics)} numbers, {len(tracked.files)} files. {location}",
            soft_wrap=True,
            markup=False,
        ),
    )
