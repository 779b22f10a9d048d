"""Public verification instances beside the verdicts that the tools of a competition published for them.

    python tests/benchmarks/verification.py INSTANCES.csv RESULTS [--every K] [--seconds S]

INSTANCES.csv has a line NET,SPECIFICATION,TIMEOUT an instance, paths beside itself, as the benchmarks of VNN-COMP have.
RESULTS is the folder of the published tables, one a tool: category, net, specification, seconds of preparation, result,
seconds. A published verdict is what no tool contradicts. Every K-th instance is decided within S seconds, and the last
lines count what agrees, what is new, and what contradicts, which has to be none.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections import Counter, defaultdict
from pathlib import Path

from audit.bounds.verification import verify_instance

_VERDICTS = {"holds": "unsat", "unsat": "unsat", "violated": "sat", "sat": "sat"}


def published(folder: Path) -> dict[tuple[str, str], Counter[str]]:
    """How many tools gave each verdict, by the names of the instance's net and specification."""
    verdicts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for table in sorted(folder.glob("*.csv")):
        for row in csv.reader(table.open()):
            verdict = _VERDICTS.get(row[4].strip().lower()) if len(row) > 4 else None
            if verdict:
                verdicts[Path(row[1]).name, Path(row[2]).name][verdict] += 1
    return verdicts


def main() -> None:
    """Decide the instances and compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("instances", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    known, counts = published(given.results), Counter[str]()
    rows = [row for row in csv.reader(given.instances.open()) if row][:: given.every]
    for net, specification, *_ in rows:
        begun = time.process_time()
        folder = given.instances.parent
        result = verify_instance(folder / net, folder / specification, seconds=given.seconds)
        theirs = known[Path(net).name, Path(specification).name]
        if result.verdict == "unknown":
            kind = "unknown"
        elif not theirs:
            kind = "new"
        else:
            kind = "agrees" if theirs.most_common(1)[0][0] == result.verdict else "CONTRADICTS"
        counts[kind] += 1
        cpu = time.process_time() - begun
        print(net, specification, result.verdict, f"{cpu:.1f} s", dict(theirs), kind, flush=True)
    print(dict(counts))
    if counts["CONTRADICTS"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
