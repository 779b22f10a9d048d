"""Two checkouts of this repository on the same audit, in turn: seconds, passes by study, verdicts.

    python tests/benchmarks/two_builds.py OLD NEW --keep FOLDER --rounds 3 -- --preset standard

OLD and NEW are checkouts, such as two worktrees; the words after -- go to `audit run` of both, relative paths among
them counted from the present folder. Every round runs both, each with an empty store and a cache of its own. With
--keep the run folders stay, and a build whose folder holds a finished run of as many rounds is not run again: a slow
old build needs its run once. Both are compiled first, as an installed wheel is. Seconds compare on a machine
that does nothing else; CPU seconds and passes anywhere.

    python tests/benchmarks/two_builds.py OLD NEW --keep default
    python tests/benchmarks/two_builds.py OLD NEW --keep standard -- --preset standard
    python tests/benchmarks/two_builds.py OLD NEW --keep lite0 -- --preset quick --no-harden --data folder:DIR ...
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Passes = dict[tuple[str, str], tuple[int, int]]
"""Forwards and backwards by study and role."""
RUN_CODES = (0, 1)
"""Exit codes of a finished audit: all passed, or a gate failed."""
FINISHED = "seconds.json"


def run_once(checkout: Path, folder: Path, words: Sequence[str]) -> None:
    """One audit into an empty folder; its seconds and CPU seconds stand beside it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(checkout.resolve()), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "AUDIT_CACHE_DIR": str(folder.resolve() / "cache"),
        "XDG_CACHE_HOME": str(folder.resolve() / "cache"),
    }
    command = [sys.executable, "-P", "-m", "audit", "run", "--out", str(folder.resolve() / "out"), *words]
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with (folder / "log.txt").open("w") as log:
        code = subprocess.run(command, env=environment, stdout=log, stderr=log, check=False).returncode
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    if code not in RUN_CODES:
        raise SystemExit(f"The audit of {checkout} ended with {code}; see {folder / 'log.txt'}.")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    (folder / FINISHED).write_text(json.dumps({"seconds": seconds, "cpu": cpu}))


def document_of(folder: Path) -> dict[str, Any]:
    """The audit.json of a run."""
    return dict(json.loads((folder / "out" / "audit.json").read_text()))


def passes_of(document: Mapping[str, Any]) -> Passes:
    """What each study of each model cost."""
    return {
        (row["study"], row["role"]): (row["cost"]["forwards"], row["cost"]["backwards"])
        for row in document["protocol"]["costs"]
    }


def verdicts_of(document: Mapping[str, Any]) -> dict[tuple[str, str, str], str]:
    """The verdict and the estimate of each check of each model and, where it is about one, each method."""
    return {
        (f["check"], f["role"], f["values"].get("identifier", "")): f"{f['verdict']} {_number(f['estimate'])}"
        for f in document["findings"]
    }


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def ratio(new: float, old: float) -> str:
    """How much of the old one the new one is."""
    return f"{new / old:.3f}" if old else "-"


def passes_table(old: Passes, new: Passes) -> list[str]:
    """A row for each study of each model, and their sums with training and without."""
    lines = ["| study | model | old forwards | old backwards | new forwards | new backwards | x |", "|" + "---|" * 7]

    def row(study: str, role: str, first: Sequence[int], second: Sequence[int]) -> str:
        cells = (study, role, *(f"{count:,}" for count in (*first, *second)), ratio(sum(second), sum(first)))
        return f"| {' | '.join(cells)} |"

    for key in dict.fromkeys([*old, *new]):
        lines.append(row(*key, old.get(key, (0, 0)), new.get(key, (0, 0))))
    for name, left_out in (("all", ""), ("all but training", "training")):
        sums = [
            [sum(cost[i] for (study, _), cost in side.items() if study != left_out) for i in (0, 1)]
            for side in (old, new)
        ]
        lines.append(row(name, "", *sums))
    return lines


def verdict_lines(old: Mapping[tuple[str, str, str], str], new: Mapping[tuple[str, str, str], str]) -> list[str]:
    """How many checks both builds made agree in their verdict, and every other one."""
    both = [key for key in old if key in new]
    same = [key for key in both if old[key].split()[0] == new[key].split()[0]]
    lines = [f"{len(same)} of {len(both)} checks that both made have the same verdict."]
    lines += [f"- {' · '.join(k)}: {old[k]} -> {new[k]}" for k in both if k not in same]
    lines += [f"- {' · '.join(k)}: only one build checked it" for k in sorted(set(old) ^ set(new))]
    return lines


def report(folders: Mapping[str, Sequence[Path]]) -> str:
    """Seconds, passes and verdicts of finished runs, as Markdown."""
    times = {build: [json.loads((folder / FINISHED).read_text()) for folder in runs] for build, runs in folders.items()}
    lines = ["| build | seconds | CPU seconds |", "|---|---|---|"]
    for build, rows in times.items():
        cells = (" ".join(f"{row[kind]:.1f}" for row in rows) for kind in ("seconds", "cpu"))
        lines.append(f"| {build} | {' | '.join(cells)} |")
    middles = [
        [statistics.median(row[kind] for row in times[b]) for b in ("new", "old")] for kind in ("seconds", "cpu")
    ]
    lines.append(f"| x (medians) | {' | '.join(ratio(*pair) for pair in middles)} |")
    old, new = (document_of(folders[build][0]) for build in ("old", "new"))
    lines += ["", *passes_table(passes_of(old), passes_of(new)), "", *verdict_lines(verdicts_of(old), verdicts_of(new))]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, help="a checkout")
    parser.add_argument("new", type=Path, help="another checkout")
    parser.add_argument("--keep", type=Path, help="where the runs stay; a temporary folder by default")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", choices=["old", "new"], help="run this build alone and compare nothing")
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    given, words = parser.parse_args(sys.argv[1:end]), sys.argv[end + 1 :]  # argparse would give the words to OLD
    with tempfile.TemporaryDirectory() as temporary:
        root = given.keep or Path(temporary)
        builds = {"old": given.old, "new": given.new}
        for checkout in builds.values():
            compileall.compile_dir(checkout / "audit", quiet=1)
        for number in range(given.rounds):
            for build, checkout in builds.items():
                folder = root / f"{build}-{number}"
                if given.only not in (None, build) or (folder / FINISHED).exists():
                    continue
                run_once(checkout, folder, words)
        if given.only is None:
            print(report({build: [root / f"{build}-{n}" for n in range(given.rounds)] for build in builds}))


if __name__ == "__main__":
    main()
