"""The name of a computation and its hash: everything that changes its answer, and nothing else."""

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
    """One computation, identified by what it computes.

    Device, batch size, number of processes and executor are left out: they change what a cell costs, not its answer,
    and are recorded in `Evidence.environment`.

    Attributes:
        study: Name of the study that computes it.
        method: Name of the attack, attribution, metric or recipe that the study runs.
        version: Version of the study and of the method, with that of a library the method wraps.
        settings: Settings of the study and of the method, as JSON values.
        model: Identity of the model it runs on; "cell:KEY" for a model that another cell makes; empty for none.
        examples: Fingerprint of the data, seed of their order and range of the examples it runs on; empty for none.
        seed: The seed of its random draws.
        threat: The threat model as {"norm", "eps"}; None without one.
        inputs: By name, the keys of the cells whose evidence it reads.
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
    """JSON with sorted keys and no spaces, so that equal values give equal text.

    Args:
        value: Nested mappings, sequences, strings, numbers, booleans, None and pydantic models.

    Raises:
        ValueError: A number is NaN or infinite.
    """
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
