"""The same audit by another build and by this one: `python tests/benchmarks/two_builds.py --before CHECKOUT -- WORDS`.

CHECKOUT is a folder that holds another version of the package, as `git worktree add` makes one; WORDS go to `audit run`.
Both run in turn, each in an empty folder. Printed are the images forwarded and back-propagated by each study, the
seconds, and every finding whose verdict differs. `--keep FOLDER` keeps both runs there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def audited(checkout: Path, out: Path, words: list[str]) -> tuple[dict[str, Any], float]:
    """The document of a run by the package in a checkout, and its seconds."""
    begun = time.perf_counter()
    ended = subprocess.run(
        [sys.executable, "-m", "audit", "run", "--out", str(out), "--quiet", *words],
        env=os.environ | {"PYTHONPATH": str(checkout.resolve())},
        stdout=subprocess.DEVNULL,
    )
    if ended.returncode not in (0, 1):
        raise SystemExit(f"The audit by {checkout} ended with {ended.returncode}.")
    return json.loads((out / "audit.json").read_text()), time.perf_counter() - begun


def passes(document: dict[str, Any]) -> Counter[tuple[str, str]]:
    """By study and kind of pass, the images of all models."""
    counted: Counter[tuple[str, str]] = Counter()
    for row in document["protocol"]["costs"]:
        for kind in ("forwards", "backwards"):
            counted[row["study"], kind] += row["cost"][kind]
    return counted


def verdicts(document: dict[str, Any]) -> dict[tuple[str, str, str], str]:
    """By role, check and what it is about."""
    return {
        (row["role"], row["check"], str(row["values"].get("identifier") or row["values"].get("threat") or "")): (
            row["verdict"]
        )
        for row in document["findings"]
    }


def show(before: dict[str, Any], after: dict[str, Any], seconds: tuple[float, float]) -> None:
    """A row a study, then the sums without training and with it, the seconds and the verdicts that differ."""
    old, new = passes(before), passes(after)
    print(f"{'study':24} {'forwards':>19} {'backwards':>21}    ratio of both")
    for study in dict.fromkeys(study for study, _ in old):
        row(study, old, new, [study])
    row("all but training", old, new, sorted({study for study, _ in old} - {"training"}))
    row("all", old, new, sorted({study for study, _ in old}))
    print(f"seconds {seconds[0]:.1f} -> {seconds[1]:.1f}, ratio {seconds[1] / seconds[0]:.2f}")
    first, second = verdicts(before), verdicts(after)
    differing = [key for key in first | second if first.get(key) != second.get(key)]
    print(f"{len(first)} and {len(second)} findings, {len(differing)} with other verdicts")
    for key in differing:
        print("  ", *key, first.get(key), "->", second.get(key))


def row(name: str, old: Counter[tuple[str, str]], new: Counter[tuple[str, str]], studies: list[str]) -> None:
    """The passes of some studies by both builds."""
    counts = [
        sum(build[study, kind] for study in studies) for kind in ("forwards", "backwards") for build in (old, new)
    ]
    ratio = (counts[1] + counts[3]) / max(1, counts[0] + counts[2])
    print(f"{name:24} {counts[0]:>8} -> {counts[1]:>8} {counts[2]:>9} -> {counts[3]:>8}    {ratio:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, required=True, help="a checkout of the other version")
    parser.add_argument("--keep", type=Path, help="keep both runs in this folder")
    parser.add_argument("words", nargs="*", help="further words for `audit run`, after --")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = given.keep or Path(name)
        runs = [
            audited(checkout, folder / label, given.words)
            for checkout, label in ((given.before, "before"), (ROOT, "after"))
        ]
    show(runs[0][0], runs[1][0], (runs[0][1], runs[1][1]))
