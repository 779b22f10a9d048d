"""How far a battery has come: its rows so far, and the books they led to, kept so that a kill loses one row at most."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from audit.adversarial.result import AttackResult
from audit.adversarial.worst_case import WorstCase
from audit.core.types import PassCount
from audit.storage.checkpoint import CellCheckpoint


class BatteryCheckpoint:
    """`rows` so far, begun with those that `unfinished` holds: their books are then put back into `ledger`, and its
    model is charged with their cost. `spent()` is what the models have cost so far.
    """

    def __init__(self, ledger: WorstCase, spent: Callable[[], PassCount], unfinished: CellCheckpoint | None) -> None:
        self.ledger, self.spent, self.unfinished = ledger, spent, unfinished
        self.rows: list[AttackResult] = []
        self._begun = spent()
        found = None if unfinished is None else unfinished.load()
        if found is not None:
            state, facts = found
            ledger.restore(state)
            self.rows = [AttackResult(**{**row, "passes": PassCount(**row["passes"])}) for row in facts["rows"]]
            ledger.model.charge(PassCount(**facts["passes"]))

    def add(self, row: AttackResult) -> None:
        """Enter the row; kept when that is due."""
        self.rows.append(row)
        if self.unfinished is not None and self.unfinished.is_due:
            self.keep()

    def keep(self) -> None:
        """Keep everything so far, where there is a place for it."""
        if self.unfinished is not None:
            facts = {"rows": [asdict(row) for row in self.rows], "passes": asdict(self.spent() - self._begun)}
            self.unfinished.save(self.ledger.state(), facts)
