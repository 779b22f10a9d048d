"""What another tool would have told you: `python tests/benchmarks/peer_answers.py [--only foolbox] [--seeds 20]`.

Valid input, a right answer known beforehand, and what the tool says, over so many seeds. Tools that are not installed
are left out. The rows stand in samples/peers.md.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.peer_attack_answers import ATTACK_ROWS
from tests.benchmarks.peer_map_answers import MAP_ROWS

ROWS: tuple[tuple[str, str, Callable[[int], str], str], ...] = (*ATTACK_ROWS, *MAP_ROWS)
"""Package, question, answer of a seed, and what is right."""


def said(answer: Callable[[int], str], seeds: int) -> str:
    """What the tool says, each different answer once with its count."""
    answers: dict[str, int] = {}
    for seed in range(seeds):
        torch.manual_seed(seed)
        quiet = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
        with warnings.catch_warnings(), quiet[0], quiet[1]:
            warnings.simplefilter("ignore")
            text = answer(seed)
        answers[text] = answers.get(text, 0) + 1
    if len(answers) == 1:
        return f"{next(iter(answers))} ({seeds} of {seeds} seeds)"
    return "; ".join(f"{text} ({count} of {seeds})" for text, count in sorted(answers.items(), key=lambda a: -a[1])[:4])


def installed(package: str) -> str | None:
    with contextlib.suppress(PackageNotFoundError):
        return version(package)
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[], help="packages")
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}\n\n| tool | asked | it says | right is |\n|---|---|---|---|")
    for package, question, answer, right in ROWS:
        release = installed(package)
        if release and (not options.only or package in options.only):
            print(f"| {package} {release} | {question} | {said(answer, options.seeds)} | {right} |", flush=True)


if __name__ == "__main__":
    main()
