"""`samples/what-loads.md`: every row names a test that exists, and no row stands there twice."""

from __future__ import annotations

import re
from pathlib import Path

from audit.core.resources import resource_dir

ROOT = Path(__file__).parent.parent
ROW = re.compile(r"^\| (?P<case>[^|]+) \| (?P<outcome>[^|]+) \| `(?P<test>[^`|]+)` \|$")


def rows() -> list[re.Match[str]]:
    """The rows of the page's tables, without their heads."""
    lines = (resource_dir("samples") / "what-loads.md").read_text(encoding="utf-8").splitlines()
    body = [line for line in lines if line.startswith("|") and not line.startswith(("| It looks", "|---"))]
    matches = [(line, ROW.match(line)) for line in body]
    assert not [line for line, match in matches if match is None], "a row: | case | outcome | `tests/FILE.py::NAME` |"
    return [match for _, match in matches if match is not None]


def test_every_row_names_a_test_that_exists() -> None:
    missing = []
    for row in rows():
        file, _, name = row["test"].partition("::")
        path = ROOT / file
        if not path.is_file() or f"def {name}(" not in path.read_text(encoding="utf-8"):
            missing.append(row["test"])
    assert not missing


def test_no_row_stands_twice() -> None:
    cases = [row["case"] for row in rows()]
    assert len(set(cases)) == len(cases)
