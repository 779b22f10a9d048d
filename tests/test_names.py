"""No public name is defined twice in the package: whoever reads one knows which it is."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "audit"
REGISTERING = frozenset(
    "attack attribution corruption metric recipe study check command data_format model_format pruning".split()
)
"""Decorators by which a function becomes a method, a study, a check, a format or a command: its name is what a user
writes, and its kind tells it from another of that name."""
OF_A_TOPIC = frozenset(
    "TOPIC plan plan_pair plan_run max_passes expected_passes foreseen readings build view is_shown".split()
)
"""What every topic may have one of, found by name (see `audit.core.topic.Topic`)."""
KNOWN: frozenset[str] = frozenset()
"""Names that are still defined twice. Rename one and take it from this list; nothing is to join it."""


def definitions(path: Path) -> Iterator[str]:
    """The public names that a module defines itself, apart from those exempt by rule."""
    for node in ast.parse(path.read_text("utf-8")).body:
        for name in names_of(node):
            if not name.startswith("_") and not (path.is_relative_to(PACKAGE / "topics") and name in OF_A_TOPIC):
                yield name


def names_of(node: ast.stmt) -> list[str]:
    """What a statement defines; nothing for a registered function, a type variable or a module's logger."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [] if any(called(decorator) in REGISTERING for decorator in node.decorator_list) else [node.name]
    if isinstance(node, ast.AnnAssign):
        return [node.target.id] if isinstance(node.target, ast.Name) else []
    if isinstance(node, ast.Assign) and called(node.value) not in ("TypeVar", "ParamSpec", "getLogger"):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []


def called(node: ast.expr) -> str:
    """The name of what an expression calls or is, without what it is an attribute of."""
    function = node.func if isinstance(node, ast.Call) else node
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def defined_twice() -> dict[str, list[str]]:
    """Each name that more than one module defines, with those modules."""
    places: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        for name in set(definitions(path)):
            places[name].append(str(path.relative_to(PACKAGE)))
    return {name: paths for name, paths in places.items() if len(paths) > 1}


def test_no_public_name_is_defined_in_two_modules() -> None:
    twice = defined_twice()
    fresh = [f"{name}: {', '.join(twice[name])}" for name in sorted(twice.keys() - KNOWN)]
    assert not fresh, "rename one of each:\n" + "\n".join(fresh)


def test_names_known_to_be_defined_twice_still_are() -> None:
    assert sorted(KNOWN - defined_twice().keys()) == [], "take these from KNOWN"


def test_two_definitions_of_a_name_are_seen() -> None:
    """Else the tests above hold nothing."""
    text = "log = getLogger()\nT = TypeVar('T')\nA: int = 1\nB = 2\nclass C: ...\n@study()\ndef d(): ...\ndef e(): ..."
    module = ast.parse(text)
    assert [name for node in module.body for name in names_of(node)] == ["A", "B", "C", "e"]


if __name__ == "__main__":
    for name, paths in sorted(defined_twice().items()):
        print(f"{name}: {', '.join(paths)}")
