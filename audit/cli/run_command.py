"""What `run`, `train` and `harden` share: a configuration is carried out under the eyes of a person."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.markup import escape

from audit.cli.interrupt import graceful_interrupts
from audit.cli.progress import RichProgress
from audit.cli.terminal import Terminal
from audit.cli.verdicts import MARKS
from audit.config import RunConfig
from audit.core.errors import Interrupted
from audit.core.evidence import Finding
from audit.planning.build import Scope
from audit.runs.pipeline import AuditRun, run_audit
from audit.runs.setup import RunSetup


@dataclass(frozen=True)
class RunRequest:
    """A configuration, where it goes, and how much of it is wanted."""

    config: RunConfig
    out: Path
    scope: Scope = "audit"
    gate: bool = False


def run_and_report(job: RunRequest, voice: Terminal) -> AuditRun:
    """Run the job, show the verdict, and exit as it deserves. Returns only on exit code 0."""
    with graceful_interrupts(voice) as stopping, RichProgress(voice) as watcher:
        try:
            outcome = run_audit(
                job.config,
                job.out,
                scope=job.scope,
                watcher=watcher,
                stopping=stopping,
                told=lambda prepared: _introduce(prepared, voice),
            )
        except Interrupted as fault:
            raise Interrupted(f"{fault} Go on with: {current_command()}") from None
    voice.give(_as_document(outcome), lambda: _show(outcome, voice))
    code = exit_code(outcome, gate=job.gate)
    if code:
        raise typer.Exit(code)
    return outcome


def exit_code(outcome: AuditRun, *, gate: bool) -> int:
    """3 for an incomplete run, 1 for a failed gate, else 0."""
    if not outcome.dossier.complete:
        return 3
    return 1 if gate and outcome.document.summary.verdict in ("fail", "inconclusive") else 0


def _introduce(prepared: RunSetup, voice: Terminal) -> None:
    subject = prepared.subject
    size = "x".join(str(side) for side in subject.shape)
    chosen = " (chosen by auto)" if prepared.config.device == "auto" else ""
    voice.say(
        f"{escape(prepared.dataset.name)}: {len(subject.classes)} classes of {size} images, "
        f"{subject.train_examples} to train and {subject.test_examples} to test · "
        f"architecture {escape(subject.architecture)} · device {prepared.device}{chosen}"
    )
    for note in (*prepared.dataset.notes, *(prepared.loaded.notes if prepared.loaded else ())):
        voice.say(f"[yellow]note:[/] {escape(note)}")


def _show(outcome: AuditRun, voice: Terminal) -> None:
    summary = outcome.document.summary
    voice.out.print(f"\n{MARKS[summary.verdict]}  [bold]{escape(summary.sentence)}[/]\n", soft_wrap=True)
    for finding in outcome.document.findings:
        if not voice.quiet or finding.verdict in ("fail", "inconclusive"):
            voice.out.print(f"  {MARKS[finding.verdict]}  {escape(_line(finding))}", soft_wrap=True)
    for task in outcome.dossier.plan.tasks:
        evidence = outcome.dossier.evidence.get(task.cell.key)
        if evidence is not None and evidence.status == "failed":
            voice.out.print(f"  [red]failed[/]  {escape(task.label)}: {escape(evidence.reason)}", soft_wrap=True)
    voice.out.print(f"\nReport: [bold]{escape(str(outcome.folder.report))}[/]", soft_wrap=True)


def _line(finding: Finding) -> str:
    return f"{finding.role}: {finding.title}"


def _as_document(outcome: AuditRun) -> dict[str, Any]:
    document = outcome.document
    return {
        "run": str(outcome.folder.root),
        "document": str(outcome.folder.document),
        "report": str(outcome.folder.report),
        "verdict": document.summary.verdict,
        "sentence": document.summary.sentence,
        "complete": document.summary.complete,
        "findings": [finding.model_dump(mode="json") for finding in document.findings],
    }


def current_command() -> str:
    """What a shell runs again, word for word."""
    called = Path(sys.argv[0]).name
    return shlex.join([*(["python", "-m", "audit"] if called == "__main__.py" else [called]), *sys.argv[1:]])
