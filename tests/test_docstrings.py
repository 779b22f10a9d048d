"""Docstrings in Google's convention: every argument, field and raised error of what is public has a line of its own."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "audit"
CHECKED: tuple[str, ...] = (
    "execution",
    "storage",
    "training",
    "data",
    "models",
    "attributions",
    "explanation",
    "masking",
    "metrics",
    "adversarial",
    "bounds",
    "attacks",
    "corruptions",
    "api",
    "cli",
    "config",
    "runs",
    "core",
    "planning",
    "document",
    "report",
    "results",
    "topics",
)
"""The packages held to it."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def section(doc: str, title: str) -> str:
    """The body of the section `title` of a cleaned docstring; empty when there is none."""
    match = re.search(rf"^{title}:\n((?:[ \t]+.*\n?|\n)*)", doc + "\n", re.M)
    return match[1] if match else ""


def named(body: str) -> set[str]:
    """The names that the lines of an Args, Attributes or Raises section explain."""
    lines = re.findall(r"^ {4}([*\w][^:\n]*?)(?: \([^)]*\))?:(?:\s|$)", body, re.M)
    return {name.strip("* ") for line in lines for name in line.split(",")}


def arguments(function: Function) -> list[str]:
    """The parameters of `function`, `self`, `cls` and unused ones left out."""
    spec = function.args
    names = [a.arg for a in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs, spec.vararg, spec.kwarg) if a]
    return [name for name in names if name not in ("self", "cls") and not name.startswith("_")]


def raised(function: Function) -> set[str]:
    """The errors that the body of `function` itself raises by name, those of inner functions left out."""
    errors = set()
    pending: list[ast.AST] = list(function.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
            if node.exc.func.id[0].isupper():
                errors.add(node.exc.func.id)
        pending.extend(ast.iter_child_nodes(node))
    return errors


def decorators(node: Function | ast.ClassDef) -> set[str]:
    """The last names of the decorators of `node`."""
    calls = (d.func if isinstance(d, ast.Call) else d for d in node.decorator_list)
    return {d.attr if isinstance(d, ast.Attribute) else getattr(d, "id", "") for d in calls}


def faults_of_function(function: Function, where: str) -> Iterator[str]:
    if decorators(function) & {"overload", "override", "command", "setter", "field_validator", "model_validator"}:
        return
    doc = ast.get_docstring(function) or ""
    missing = set(arguments(function)) - named(section(doc, "Args"))
    if missing:
        yield f"{where}: Args lacks {', '.join(sorted(missing))}"
    unsaid = raised(function) - named(section(doc, "Raises"))
    if unsaid:
        yield f"{where}: Raises lacks {', '.join(sorted(unsaid))}"


def faults_of_class(node: ast.ClassDef, where: str) -> Iterator[str]:
    doc = ast.get_docstring(node) or ""
    fields = [
        item.target.id
        for item in node.body
        if isinstance(item, ast.AnnAssign)
        and isinstance(item.target, ast.Name)
        and not item.target.id.startswith("_")
        and not (isinstance(item.value, ast.Call) and any(k.arg == "description" for k in item.value.keywords))
    ]
    missing = set(fields) - named(section(doc, "Attributes"))
    if missing:
        yield f"{where}: Attributes lacks {', '.join(sorted(missing))}"
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and not item.name.startswith("_"):
            yield from faults_of_function(item, f"{where}.{item.name}")


def faults(path: Path) -> list[str]:
    """What the public things at the top of a file leave unsaid."""
    found: list[str] = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            found += faults_of_function(node, f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name}")
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            found += faults_of_class(node, f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name}")
    return found


@pytest.mark.parametrize("package", CHECKED)
def test_every_argument_field_and_error_is_said(package: str) -> None:
    assert [fault for path in sorted((PACKAGE / package).rglob("*.py")) for fault in faults(path)] == []


if __name__ == "__main__":
    import sys

    for name in sys.argv[1:]:
        root = PACKAGE / name
        for path in [root] if root.is_file() else sorted(root.rglob("*.py")):
            print(*faults(path), sep="\n", end="")
