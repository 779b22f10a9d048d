"""Methods that are not registered one by one: the rest of a name, as in `nrtk:haze`, says which is meant."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from audit.core.method import Kind, Method

_Resolver = TypeVar("_Resolver", bound=Callable[[str], Method])
FAMILIES: dict[tuple[Kind, str], Callable[[str], Method]] = {}
"""By kind and what stands before the colon, what gives the method of a whole name."""


def family(kind: Kind, prefix: str) -> Callable[[_Resolver], _Resolver]:
    """Register `(name) -> Method` for every name of a kind that begins with the prefix and a colon.

    Args:
        kind: The kind of method.
        prefix: What stands before the colon.

    Returns:
        The decorator, which returns the function as it is.
    """

    def decorate(resolve: _Resolver) -> _Resolver:
        FAMILIES[kind, prefix] = resolve
        return resolve

    return decorate
