"""What `run`, `train`, `harden` and `compress` share: they run a configuration and print what came of it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.markup import escape

from audit.cli.interrupt import graceful_interrupts
from audit.cli.progress import RichProgress
from audit.cli.terminal import MARKS, Terminal
from audit.config import RunConfig
from audit.core.errors import Interrupted
from audit.document.schema import Gap
from audit.models.devices import resolve_device
from audit.planning.build import Scope
from audit.runs.pipeline import AuditRun, run_audit
from audit.runs.ray_actors import RayActors
from audit.runs.run_setup import RunSetup
from audit.training.distributed import launched_by_torchrun
from audit.training.torchrun import torchrun_world


@dataclass(frozen=True)
class RunRequest:
    """A configuration to run.

    Attributes:
        config: The configuration.
        out: The run folder.
        scope: How much of it to run.
        gate: Whether a verdict of fail or inconclusive ends the command with exit code 1.
        release: The role whose weights the command is run for: they are copied to OUT/model.safetensors, or .onnx.
        within: Seconds that the run may take; None for as long as it needs.
        watch: Whether the report is shown as it grows.
        actors: Workers on Ray that have begun; None for those that the configuration asks for to begin with the run.
    """

    config: RunConfig
    out: Path
    scope: Scope = "audit"
    gate: bool = False
    release: str = ""
    within: float | None = None
    watch: bool = False
    actors: RayActors | None = None


def run_and_report(request: RunRequest, terminal: Terminal) -> AuditRun:
    """Run a configuration and print its verdict; of the processes that torchrun starts, the first does.

    Args:
        request: What to run.
        terminal: Where to print.

    Returns:
        The finished run, when the exit code is 0.

    Raises:
        Exit: The exit code is another.
        Interrupted: The run was stopped before there was anything to report; the sentence names the command that goes
            on.
    """
    if not launched_by_torchrun():
        return _run_and_report(request, terminal)
    with torchrun_world(resolve_device(request.config.device)) as world:
        if world.workers.rank == 0:
            return _run_and_report(request, terminal)
        world.serve()
    raise typer.Exit(0)


def _run_and_report(request: RunRequest, terminal: Terminal) -> AuditRun:
    if request.watch:
        terminal.info(f"Open {escape(str(request.out / 'live.html'))} in a browser: it follows the run.")
    with graceful_interrupts(terminal) as should_stop, RichProgress(terminal) as progress:
        try:
            finished = run_audit(
                request.config,
                request.out,
                scope=request.scope,
                callback=progress,
                should_stop=should_stop,
                on_setup=lambda setup: introduce(setup, terminal),
                within=request.within,
                watch=request.watch,
                forks=True,
                actors=request.actors,
            )
        except Interrupted as fault:
            raise Interrupted(f"{fault} Go on with: {current_command()}") from None
    if request.release and finished.folder.model(request.release).is_file():
        finished.folder.release(request.release)
    weights = _weights(finished, request)
    terminal.emit(_as_document(finished, weights), lambda: _show(finished, weights, terminal))
    code = exit_code(finished, gate=request.gate)
    if code == 0 and request.release and not finished.folder.released_model.is_file():
        code = 3  # the time ended before there was the model that the command is run for
    if code:
        raise typer.Exit(code)
    return finished


def exit_code(finished: AuditRun, *, gate: bool) -> int:
    """The exit code of a run: 130 when it was stopped, 3 when it is incomplete, 1 when it fails the gate, else 0.

    One whose time ended did what was asked, and is incomplete for a gate alone, which it may fail all the same.

    Args:
        finished: The run.
        gate: Whether a verdict of fail or inconclusive fails it.
    """
    summary = finished.document.summary
    if summary.cut_by == "user":
        return 130
    failed = any(evidence.status == "failed" for evidence in finished.results.evidence.values())
    if finished.faults or failed or not (summary.complete or summary.cut_by):
        return 3
    if not gate:
        return 0
    if summary.verdict == "fail":
        return 1
    return 3 if summary.cut_by else int(summary.verdict == "inconclusive")


def current_command() -> str:
    """The command line of this process, as a shell runs it again."""
    program = Path(sys.argv[0]).name
    return shlex.join([*(["python", "-m", "audit"] if program == "__main__.py" else [program]), *sys.argv[1:]])


def introduce(setup: RunSetup, terminal: Terminal) -> None:
    """Say what data and model were read, and every note on them.

    Args:
        setup: The data and the model.
        terminal: Where to print.
    """
    subject = setup.subject
    size = "x".join(str(side) for side in subject.shape)
    automatic = " (chosen by auto)" if setup.config.device == "auto" else ""
    terminal.info(
        f"{escape(str(setup.dataset.name))}: {len(subject.classes)} classes of {size} images, "
        f"{subject.train_examples} to train and {subject.test_examples} to test · "
        f"architecture {escape(subject.architecture)} · device {setup.device}{automatic}"
    )
    for note in (*setup.dataset.notes, *(setup.loaded.notes if setup.loaded else setup.notes)):
        terminal.info(f"[yellow]note:[/] {escape(note.text)}")


def _weights(finished: AuditRun, request: RunRequest) -> list[str]:
    """The weights that the run trained, those it was run for last."""
    files = [finished.folder.model(model.role) for model in finished.document.models]
    if request.release:
        files.append(finished.folder.released_model)
    return [str(path) for path in files if path.is_file()]


def _failed_parts(finished: AuditRun) -> list[Gap]:
    """The checks and sections that failed; those of cells are listed with their cells."""
    studies = {task.cell.study for task in finished.results.plan.tasks}
    return [gap for gap in finished.document.gaps if gap.status == "failed" and gap.study not in studies]


def _show(finished: AuditRun, weights: Sequence[str], terminal: Terminal) -> None:
    def write(text: str) -> None:
        terminal.stdout.print(text, soft_wrap=True)

    summary = finished.document.summary
    write(f"\n{MARKS[summary.verdict]}  [bold]{escape(summary.sentence)}[/]\n")
    for finding in finished.document.findings:
        if not terminal.quiet or finding.verdict in ("fail", "inconclusive"):
            write(f"  {MARKS[finding.verdict]}  {escape(f'{finding.role}: {finding.title}')}")
    for task in finished.results.plan.tasks:
        evidence = finished.results.evidence.get(task.cell.key)
        if evidence is not None and evidence.status == "failed":
            write(f"  [red]failed[/]  {escape(task.label)}: {escape(str(evidence.reason))}")
    for sentence in (*(str(gap.reason) for gap in _failed_parts(finished)), *finished.faults):
        write(f"  [red]failed[/]  {escape(sentence)}")
    write("")
    for path in weights:
        write(f"Weights: [bold]{escape(path)}[/]")
    write(f"Report: [bold]{escape(str(finished.folder.report))}[/]")
    if summary.cut_by:
        write(f"[yellow]{_CUT[summary.cut_by]}[/] Not measured, or not to the end: {escape(_left(finished))}.")
    does = "goes on from here" if summary.cut_by else "computes what failed"
    again = "" if summary.complete else f"{escape(current_command())} {does}"
    write(f"Next: {again or f'audit show {escape(shlex.quote(str(finished.folder.root)))}'}")


_CUT = {"time": "The time ended.", "user": "Stopped as asked."}


def _left(finished: AuditRun) -> str:
    """The studies that a run which was cut did not finish, each with its models."""
    roles: dict[str, list[str]] = {}
    for row in finished.document.unfinished:
        roles.setdefault(row.study, []).append(row.role)
    return ", ".join(f"{study} ({' and '.join(names)})" for study, names in roles.items())


def _as_document(finished: AuditRun, weights: Sequence[str]) -> dict[str, Any]:
    document = finished.document
    return {
        "run": str(finished.folder.root),
        "document": str(finished.folder.document),
        "report": str(finished.folder.report),
        "weights": list(weights),
        "verdict": document.summary.verdict,
        "sentence": document.summary.sentence,
        "complete": document.summary.complete,
        "cut_by": document.summary.cut_by,
        "next": "" if document.summary.complete else current_command(),
        "unfinished": [row.model_dump(mode="json") for row in document.unfinished],
        "faults": [*(str(gap.reason) for gap in _failed_parts(finished)), *finished.faults],
        "findings": [finding.model_dump(mode="json") for finding in document.findings],
    }
