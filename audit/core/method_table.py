"""The table of registered methods: which there are, and the modules that hold them."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar

from audit.core.errors import UsageError, unknown_name
from audit.core.method import Kind, Method, first_sentence
from audit.core.method_families import FAMILIES
from audit.core.plugins import load_methods
from audit.core.topic import topics

_F = TypeVar("_F", bound=Callable[..., Any])
PACKAGES: Mapping[Kind, str] = {
    "attack": "audit.attacks",
    "attribution": "audit.attributions",
    "corruption": "audit.corruptions",
    "metric": "audit.metrics",
    "recipe": "audit.training.recipes",
    "data-format": "audit.data.formats",
    "model-format": "audit.models.formats",
    "detection-attack": "audit.attacks.detection",
    "detection-attribution": "audit.attributions.detection",
}
"""The package whose modules are imported to find the methods of a kind."""

_METHODS: dict[tuple[Kind, str], Method] = {}


def find(kind: Kind, name: str) -> Method:
    """The method of a name.

    Args:
        kind: The kind of method.
        name: Its name, with dashes.

    Raises:
        UsageError: There is none; the message lists those there are.
    """
    _load(kind)
    prefix, colon, _ = name.partition(":")
    if colon and (kind, prefix) in FAMILIES:
        return FAMILIES[kind, prefix](name)
    try:
        return _METHODS[kind, name]
    except KeyError:
        raise unknown_name(kind, name, (n for k, n in _METHODS if k == kind)) from None


def methods(kind: Kind) -> tuple[Method, ...]:
    """Every method of a kind, sorted by name.

    Args:
        kind: The kind of method.
    """
    _load(kind)
    return tuple(_METHODS[key] for key in sorted(_METHODS) if key[0] == kind)


def register(kind: Kind, reference: str, version: str, wraps: str, facts: Mapping[str, Any]) -> Callable[[_F], _F]:
    """The decorator that enters a function into the table under its name, and returns it as it is.

    Args:
        kind: The kind of method.
        reference: Its source, as arXiv:NUMBER or doi:NUMBER; empty without one.
        version: Raised when its answers change.
        wraps: The package whose code it calls; empty for ours.
        facts: What else is known of it.
    """

    def decorate(function: _F) -> _F:
        name = function.__name__.replace("_", "-")
        summary = first_sentence(inspect.getdoc(function) or "")
        registered = _METHODS.get((kind, name))
        if registered is not None and registered.function.__module__ != function.__module__:
            raise UsageError(
                f"Two {kind}s are called {name!r}: in {registered.function.__module__} and "
                f"{function.__module__}. Rename one."
            )
        _METHODS[kind, name] = Method(kind, name, function, summary, reference, version, wraps, facts)
        return function

    return decorate


@cache
def _load(kind: Kind) -> None:
    if kind in ("study", "check"):
        for topic in topics():
            topic.load_checks() if kind == "check" else topic.modules(kind)
    else:
        package = importlib.import_module(PACKAGES[kind])
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    load_methods(needed=kind != "check")
