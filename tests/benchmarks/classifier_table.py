"""The table of `classifiers.py`."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

Row = dict[str, Any]
_VARYING = (
    (r" \(node '[^']*'\)", ""),
    (r"'[\w.]+'", "'...'"),
    (r"^\w+ cannot be traced", "The net cannot be traced"),
    (r"\d+%", "...%"),
)
"""What differs from model to model in one reason."""

_HEAD = """# Classifiers of three libraries

Every classifier of torchvision, of transformers and of timm (the smallest of each of its modules), with random weights,
built in under 60 s and 200 MB, at the smallest size of image that it takes: loaded from a file of its weights, its
logits beside plain torch's (equal within 1e-4 of the largest, or within ten times
what noise of 1e-6 on the images changes, as Levit's are), explained by every method, attacked once, and looked at
for traces left in it. Made by

```sh
python -m tests.benchmarks.classifiers rows.jsonl
python -m tests.benchmarks.classifiers rows.jsonl --table samples/classifiers.md
```

with {versions}. The run goes on from where it stopped: models that stand in no row below were not reached yet.
"""


def render(rows: list[Row], versions: str) -> str:
    """The page: how many load, what each method says, and every model that fails."""
    answering = [row for row in rows if row["status"] == "answers"]
    parts = [_HEAD.format(versions=versions), "## Loaded and asked\n", *_by_library(rows)]
    parts += ["\n## Explained\n", f"Of the {len(answering)} that answer:\n", *_by_method(answering)]
    parts += ["\n## Why a method does not apply\n", *_reasons(answering)]
    parts += ["\n## What failed\n", *_failures(rows)]
    parts += ["\n## Not asked\n", *_not_asked(rows)]
    return "\n".join(parts) + "\n"


def _by_library(rows: list[Row]) -> Iterator[str]:
    yield "| library | tried | answer as torch | largest difference | attacked | left as found | failed | not asked |"
    yield "|---|---|---|---|---|---|---|---|"
    for library in dict.fromkeys(row["library"] for row in rows):
        own = [row for row in rows if row["library"] == library]
        right = [row for row in own if row["status"] == "answers"]
        worst = max((max(row["difference"], row["wrapped"]) for row in right), default=0.0)
        attacked = sum(row["attack"] == "measured" for row in right)
        untouched = sum(row["untouched"] for row in right)
        failed, unasked = sum(map(_failed, own)), sum(map(_unasked, own))
        cells = (library, len(own), len(right), f"{worst:.0e}", attacked, untouched, failed, unasked)
        yield f"| {' | '.join(map(str, cells))} |"


def _by_method(rows: list[Row]) -> Iterator[str]:
    yield "| method | measured | zero everywhere | not applicable | fails |"
    yield "|---|---|---|---|---|"
    for method in sorted({method for row in rows for method in row["methods"]}):
        kinds = Counter(_kind(row["methods"].get(method, "")) for row in rows)
        counts = (kinds[kind] for kind in ("measured", "zero", "not applicable", "fails"))
        yield f"| {method} | {' | '.join(map(str, counts))} |"


def _reasons(rows: list[Row]) -> Iterator[str]:
    """Each reason with the names of layers and calls left out, and an example."""
    examples: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        for method, said in row["methods"].items():
            if _kind(said) == "not applicable":
                examples[_general(said)][method].append(row["name"])
    yield "| reason | methods, and of how many models | such as |"
    yield "|---|---|---|"
    for reason, methods in sorted(examples.items(), key=lambda item: (-max(map(len, item[1].values())), item[0])):
        counts = ", ".join(f"{method} {len(names)}" for method, names in methods.items())
        yield f"| {reason} | {counts} | {next(iter(methods.values()))[0]} |"


def _failures(rows: list[Row]) -> Iterator[str]:
    yield "| model | what | reason |"
    yield "|---|---|---|"
    for row in rows:
        name = f"{row['library']}:{row['name']}"
        if _failed(row):
            reason = row.get("reason") or f"largest difference {row['difference']:.0e} of the largest logit"
            yield f"| {name} | {row['status']} | {_cell(reason)} |"
        for method, said in row.get("methods", {}).items():
            if _kind(said) == "fails":
                yield f"| {name} | {method} | {_cell(said)} |"
        if row["status"] == "answers" and (row["attack"] != "measured" or not row["untouched"]):
            yield f"| {name} | attack, traces | {_cell(row['attack'])}; left as found: {row['untouched']} |"


def _not_asked(rows: list[Row]) -> Iterator[str]:
    unasked: dict[str, list[str]] = defaultdict(list)
    for row in filter(_unasked, rows):
        reason = f": {row['reason']}" if row.get("reason") else ""
        unasked[f"{row['status']}{reason}"].append(row["name"])
    yield "| why | models |"
    yield "|---|---|"
    for reason, names in unasked.items():
        yield f"| {_cell(reason)} | {', '.join(names)} |"


def _unasked(row: Row) -> bool:
    """Whether it says nothing about this package: too large, too slow, or its own library does not run it so."""
    return row["status"] in ("too large", "out of time", "does not run in its library")


def _failed(row: Row) -> bool:
    return row["status"] != "answers" and not _unasked(row)


def _kind(said: str) -> str:
    if said.startswith(("FAULT", "error")):
        return "fails"
    if said.startswith("not applicable"):
        return "not applicable"
    return "zero" if "zero" in said else "measured"


def _general(said: str) -> str:
    text = said.removeprefix("not applicable: ")
    for pattern, general in _VARYING:
        text = re.sub(pattern, general, text)
    return _cell(text)


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")[:220]


def versions(libraries: Iterable[str]) -> str:
    """Names and versions of libraries, in words."""
    from importlib.metadata import version

    return ", ".join(f"{library} {version(library)}" for library in libraries)
