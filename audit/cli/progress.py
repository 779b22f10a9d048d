"""The progress of a run: a bar with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from audit.cli.terminal import Terminal
from audit.core.evidence import Evidence
from audit.execution.runner import RunCallback
from audit.planning.plan import Task

_STATUS_NOTES = {"measured": "", "not_applicable": " [dim]not applicable[/]", "failed": " [red]failed[/]"}


class RichProgress(RunCallback):
    """Prints how a run goes on. As a context manager it clears its bar at the end.

    Args:
        terminal: Where to print.
    """

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.total = 0
        self.done = 0
        self.running: dict[str, tuple[Task, float, int | None]] = {}
        self.bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=terminal.stderr,
            transient=True,
            disable=terminal.quiet or not terminal.stderr.is_terminal,
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
        """Print how much there is to do.

        Args:
            total: The number of tasks.
            stored: The number of them whose evidence is stored already.
        """
        self.total = total
        self.bar.update(self.run, total=total)
        already = f", {stored} of them already in the store" if stored else ""
        self.terminal.info(f"{total} cells at most{already}.")

    def starting(self, task: Task) -> None:
        """Show a task in the bar.

        Args:
            task: The task that begins.
        """
        self.running[task.cell.key] = (task, 0.0, None)
        self._show()

    def progress(self, task: Task, done: int, total: int) -> None:
        """Show in the bar how far the tasks under way are.

        Args:
            task: One of them.
            done: Its steps done.
            total: Its steps in all.
        """
        self.running[task.cell.key] = (task, done, total)
        self._show()

    def _show(self) -> None:
        """One task with its steps; of several, their first names, and their shares done together."""
        states = list(self.running.values())
        if len(states) == 1:
            ((task, done, total),) = states
            self.bar.update(self.step, description=escape(task.label), completed=done, total=total, visible=True)
        elif states:
            names = ", ".join(dict.fromkeys(task.cell.study for task, _, _ in states))
            share = sum(done / total for _, done, total in states if total)
            description = escape(f"{len(states)} at once: {names}")
            self.bar.update(self.step, description=description, completed=share, total=len(states), visible=True)

    def finished(self, task: Task, evidence: Evidence, *, stored: bool) -> None:
        """Print a line for a finished task, none for one that was stored already.

        Args:
            task: The task.
            evidence: Its evidence.
            stored: Whether it was there before this run.
        """
        self.done += 1
        self.running.pop(task.cell.key, None)
        self.bar.update(self.run, completed=self.done)
        if stored:
            return
        reason = f" [dim]{escape(str(evidence.reason))}[/]" if evidence.reason else ""
        count = f"{self.done:>{len(str(self.total))}}/{self.total}"
        seconds = f"[dim]{evidence.seconds:.1f} s[/]{_STATUS_NOTES[evidence.status]}{reason}"
        self.terminal.info(f"[dim]{count}[/] {escape(task.label)} {seconds}")
