"""A registered function with what it declared, and its settings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from audit.core.errors import UsageError, unknown_name
from audit.core.pass_count import PassCount

Kind = Literal[
    "attack",
    "attribution",
    "corruption",
    "metric",
    "recipe",
    "study",
    "check",
    "data-format",
    "model-format",
    "detection-attack",
    "detection-attribution",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
PassBound: TypeAlias = Callable[[Mapping[str, Any], tuple[int, ...]], PassCount | None]
"""From a method's settings and the shape (C, H, W) of an image to the passes that one image costs at most."""


@dataclass(frozen=True)
class Method:
    """A registered function and what it declared.

    Attributes:
        kind: The kind of method, such as "attack".
        name: The name of the function, with dashes for underscores.
        function: The function.
        summary: The first sentence of its docstring.
        reference: The source, as arXiv:NUMBER or doi:NUMBER; empty without one.
        version: Raised when the answers of the method change.
        wraps: The distribution that does the work, whose version becomes part of the cell; empty without one.
        facts: What else the decorator declares, such as an attack's `norms` and `needs` or a check's titles.
    """

    kind: Kind
    name: str
    function: Callable[..., Any]
    summary: str
    reference: str = ""
    version: str = "1"
    wraps: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def full_version(self) -> str:
        """The method's version, with that of the library it wraps: both change answers."""
        if not self.wraps:
            return self.version
        try:
            return f"{self.version}+{self.wraps}-{version(self.wraps)}"
        except PackageNotFoundError:
            return f"{self.version}+{self.wraps}-missing"

    @property
    def defaults(self) -> dict[str, Any]:
        """Each setting with its default."""
        return {p.name: p.default for p in _settings_of(self.function)}

    def settings(self, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """All settings: the defaults with some overridden, validated against the annotations of the parameters.

        Args:
            overrides: Values by setting; None for the defaults.

        Returns:
            The value of each setting.

        Raises:
            UsageError: A setting is unknown, or its value has the wrong type.
        """
        overrides = dict(overrides or {})
        for name in overrides:
            if name not in self.defaults:
                raise unknown_name(f"setting of {self.kind} {self.name}", name, self.defaults)
        try:
            checked = _settings_model(self.function).model_validate(overrides)
        except ValidationError as fault:
            first = fault.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise UsageError(f"Setting {key!r} of {self.kind} {self.name!r}: {first['msg']}.") from None
        return {name: getattr(checked, name) for name in type(checked).model_fields}

    def max_passes(self, settings: Mapping[str, Any], shape: tuple[int, ...]) -> PassCount | None:
        """What one example costs at most; None where the method declares no cost.

        Args:
            settings: All settings, as `settings` gives them.
            shape: Of an image, (C, H, W).
        """
        passes: PassBound | None = self.facts.get("passes")
        return None if passes is None else passes(settings, shape)

    def expected_passes(self, settings: Mapping[str, Any], shape: tuple[int, ...]) -> PassCount | None:
        """What one example usually costs, where the method stops by itself: the most where it declares nothing else.

        Args:
            settings: All settings, as `settings` gives them.
            shape: Of an image, (C, H, W).
        """
        expected: PassBound | None = self.facts.get("expected")
        return self.max_passes(settings, shape) if expected is None else expected(settings, shape)

    def doubled(self, settings: Mapping[str, Any]) -> dict[str, Any] | None:
        """The settings of twice the effort; None where the method does not declare which are effort.

        Args:
            settings: All settings, as `settings` gives them.
        """
        effort = self.facts.get("effort")
        if effort is None:
            return None
        harder = {name: 2 * settings[name] for name in effort}
        return {**settings, **harder, **dict.fromkeys(self.facts.get("early_stops", ()), False)}


def first_sentence(text: str) -> str:
    """The first sentence of a docstring.

    Args:
        text: The docstring.
    """
    paragraph = " ".join(text.split("\n\n", 1)[0].split())
    return re.split(r"(?<=\.) (?=[A-Z`])", paragraph, maxsplit=1)[0]


@cache
def _settings_of(function: Callable[..., Any]) -> tuple[inspect.Parameter, ...]:
    parameters = inspect.signature(function, eval_str=True).parameters.values()
    return tuple(p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)


@cache
def _settings_model(function: Callable[..., Any]) -> type[BaseModel]:
    for parameter in _settings_of(function):
        if inspect.Parameter.empty in (parameter.annotation, parameter.default):
            raise UsageError(
                f"Setting {parameter.name!r} of {function.__module__}.{function.__qualname__} needs a type and a "
                "default."
            )
    fields: dict[str, Any] = {p.name: (p.annotation, p.default) for p in _settings_of(function)}
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=())
    return create_model(f"{function.__name__}_settings", __config__=config, **fields)
