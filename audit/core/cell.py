"""A computation's full name and its hash: everything that changes the answer, nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

FORMAT = 1
"""Raised when the meaning of a stored cell changes; older stores are then recomputed."""


@dataclass(frozen=True)
class Cell:
    """One computation, named by content.

    `study` and `method` say what; `version` is the method's own with the wrapped library's; `settings` the
    method's; `model` and `examples` identify what it runs on; `threat` is {"norm", "eps"}; `inputs` name the
    keys of the cells it builds on. Device, batch size, workers and engine are left out on purpose: they
    change the cost, not the answer, and stand in `Evidence.environment`.
    """

    study: str
    method: str
    version: str = "1"
    settings: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""
    examples: str = ""
    seed: int = 0
    threat: Mapping[str, Any] | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """The SHA-256 of the canonical JSON of every field, 64 hexadecimal digits."""
        return hashlib.sha256(canonical_json([FORMAT, asdict(self)]).encode()).hexdigest()


class StudySettings(BaseModel):
    """Settings that a plan gives to the cells of a study; each study has a model of its own.

    A cell holds those that were set. A study that runs another's method reads the settings of both from one cell, so
    names that a model does not have are left to the other.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())

    @classmethod
    def of(cls, cell: Cell) -> Self:
        """The settings of a cell.

        Args:
            cell: A cell of this study.

        Raises:
            ValidationError: A setting is missing or has another type.
        """
        return cls.model_validate(dict(cell.settings))

    def dump(self) -> dict[str, Any]:
        """The settings that were set, for `Cell.settings`."""
        return self.model_dump(exclude_unset=True)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text. Raises on NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False, default=plain_json
    )


def plain_json(value: object) -> Any:
    """A pydantic model, such as a note, as JSON values: the `default` of `json.dumps`.

    Args:
        value: What json cannot write by itself.

    Raises:
        TypeError: It is no model.
    """
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} is no JSON value.")
