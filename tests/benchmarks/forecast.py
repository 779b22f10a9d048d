"""What `audit plan` expects beside what `audit run` then costs: `python tests/benchmarks/forecast.py NAME -- FLAGS`.

FLAGS are those of `audit run`; the store is empty at first, so the expectation rests on a probe. A line of a Markdown
table for the whole run, with --studies one for each study too: passes counted, expected and at most, and seconds.
Plan and run follow one another on the same machine, so their seconds compare as far as its other load is even.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from audit.storage.store import Store

ROOT = Path(__file__).parents[2]
HEAD = "| Run | counted | expected | ratio | at most | seconds | expected | ratio |"


def audit(*words: str) -> str:
    """The output of a command of audit."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", "audit", *words], capture_output=True, text=True, env=environment)
    if done.returncode not in (0, 1):
        raise SystemExit(f"audit {' '.join(words)} ended with {done.returncode}: {done.stderr.strip()[-400:]}")
    return done.stdout


def compared(plan: dict[str, Any], store: Store) -> dict[str, list[float]]:
    """By study: passes counted, expected and at most, seconds and expected seconds; of the cells that were foretold."""
    spent = {evidence.cell.key: evidence for evidence in store.without_arrays()}
    table: defaultdict[str, list[float]] = defaultdict(lambda: [0.0] * 5)
    for cell in plan["cells"]:
        evidence = spent.get(cell["key"])
        if evidence is None or cell["expected"] is None:
            continue
        expected, most = cell["expected"]["passes"], cell["passes"] or {"forwards": 0, "backwards": 0}
        row = [evidence.forwards + evidence.backwards, sum(expected.values()), sum(most.values())]
        row += [evidence.seconds, cell["expected"]["seconds"]]
        table[cell["study"]] = [a + b for a, b in zip(table[cell["study"]], row, strict=True)]
    return dict(table)


def line(name: str, row: list[float]) -> str:
    """A row of the table."""
    counted, expected, most, seconds, foretold = row
    passes, times = (f"{b / a:.2f}" if a else "–" for a, b in ((counted, expected), (seconds, foretold)))
    return (
        f"| {name} | {counted:,.0f} | {expected:,.0f} | {passes} | {most:,.0f} "
        f"| {seconds:.1f} | {foretold:.1f} | {times} |"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--studies", action="store_true", help="a line for each study too")
    parser.add_argument("flags", nargs="*", help="of audit run, after --")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "out")
        plan = json.loads(audit("plan", *given.flags, "--out", out, "--json"))
        audit("run", *given.flags, "--out", out, "--quiet")
        table = compared(plan, Store(Path(out) / "store"))
    print(HEAD)
    if given.studies:
        for study, row in table.items():
            print(line(study, row))
    print(line(given.name, [sum(column) for column in zip(*table.values(), strict=True)]), flush=True)
