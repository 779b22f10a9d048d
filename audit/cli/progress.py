"""What a person sees of long work: a bar with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from audit.cli.terminal import Terminal
from audit.core.evidence import Evidence
from audit.execution.runner import RunCallback
from audit.planning.plan import Task


class RichProgress(RunCallback):
    """Observes a run for a person. A context manager: the bar is cleared at the end."""

    def __init__(self, voice: Terminal) -> None:
        self.voice = voice
        self.total = 0
        self.done = 0
        self.bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=voice.aside,
            transient=True,
            disable=voice.quiet or not voice.aside.is_terminal,
        )
        self.run = self.bar.add_task("audit", total=None)
        self.step = self.bar.add_task("", total=None, visible=False)

    def __enter__(self) -> RichProgress:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def begin(self, total: int, stored: int) -> None:
        """A run of `total` tasks begins."""
        self.total = total
        self.bar.update(self.run, total=total)
        kept = f", {stored} of them already in the store" if stored else ""
        self.voice.say(f"{total} cells to know{kept}.")

    def starting(self, task: Task) -> None:
        """A task begins to be computed."""
        self.bar.update(self.step, description=escape(task.label), completed=0, total=None, visible=True)

    def progress(self, done: int, total: int) -> None:
        """The present task is at `done` of `total`."""
        self.bar.update(self.step, completed=done, total=total)

    def finished(self, task: Task, evidence: Evidence, *, stored: bool) -> None:
        """A task's evidence is there."""
        self.done += 1
        self.bar.update(self.run, completed=self.done)
        if stored:
            return
        note = {"measured": "", "not_applicable": " [dim]not applicable[/]", "failed": " [red]failed[/]"}[
            evidence.status
        ]
        reason = f" [dim]{escape(evidence.reason)}[/]" if evidence.reason else ""
        count = f"{self.done:>{len(str(self.total))}}/{self.total}"
        self.voice.say(f"[dim]{count}[/] {escape(task.label)} [dim]{evidence.seconds:.1f} s[/]{note}{reason}")
