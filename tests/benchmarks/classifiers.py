"""Every classifier of torchvision, transformers and timm: loaded, answered as plain torch does, explained, attacked.

`python -m tests.benchmarks.classifiers rows.jsonl` appends a row a model and goes on from where it stopped;
`... rows.jsonl --table samples/classifiers.md` writes the table. Weights are random. `--library timm` limits it to one
library, `--name resnet18` to one model (asked anew), `--all` takes every size of timm's instead of each family's
smallest.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks import classifier_table, classifier_trial
from tests.benchmarks.classifier_sources import LIBRARIES, names_of

_MEMORY = 8 << 30
"""Bytes that a trial may allocate."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rows", type=Path)
    parser.add_argument("--library", choices=LIBRARIES)
    parser.add_argument("--name")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--seconds", type=int, default=60, help="limit of a model's trial, in processor time")
    parser.add_argument("--table", type=Path, help="write the table of the rows and stop")
    options = parser.parse_args()
    if options.table:
        options.table.write_text(
            classifier_table.render(read_rows(options.rows), classifier_table.versions(("torch", *LIBRARIES)))
        )
        return
    torch.set_num_threads(1)
    asked = {(row["library"], row["name"]) for row in read_rows(options.rows)}
    for library in [options.library] if options.library else LIBRARIES:
        for name in names_of(library, every=options.all):
            if name == options.name or (options.name is None and (library, name) not in asked):
                append(options.rows, limited(library, name, options.seconds))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows so far, the last of each model."""
    lines = path.read_text().splitlines() if path.exists() else []
    latest = {(row["library"], row["name"]): row for row in map(json.loads, lines)}
    return list(latest.values())


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Add a row and show it in short."""
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")
    faults = [f"{method}: {said}" for method, said in row.get("methods", {}).items() if said.startswith("FAULT")]
    print(
        row["library"],
        row["name"],
        row["status"],
        row.get("reason", ""),
        *faults,
        f"{row['seconds']:.1f} s",
        flush=True,
    )


def limited(library: str, name: str, seconds: int) -> dict[str, Any]:
    """The row of a model, asked in a process of its own that may neither run for long nor take much memory."""
    context = multiprocessing.get_context("fork")  # the libraries are imported once
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, library, name, seconds))
    started = time.monotonic()
    process.start()
    sender.close()
    try:
        row: dict[str, Any] = receiver.recv() if receiver.poll(20 * seconds) else {"status": "out of time"}
    except EOFError:
        process.join()
        late = process.exitcode == -signal.SIGXCPU
        row = {"status": "out of time" if late else "crashed", "reason": f"the process ended with {process.exitcode}"}
    process.kill()
    process.join()
    return {"library": library, "name": name, "seconds": round(time.monotonic() - started, 1), **row}


def _answer(sender: Any, library: str, name: str, seconds: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    sender.send(classifier_trial.tried(library, name))


if __name__ == "__main__":
    main()
