"""What a study measured: per-example numbers and arrays, with their cost and the environment they were computed in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from audit.core.cell import Cell
from audit.core.note import NO_NOTE, Note

Status = Literal["measured", "not_applicable", "failed"]
Better = Literal["higher", "lower", "neither"]
Array = NDArray[Any]


class Facts(BaseModel):
    """What a study measured besides arrays: small values that evidence stores as JSON.

    Each study has a model of its own. A field that the study leaves unset is not stored.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, protected_namespaces=())

    def dump(self) -> dict[str, Any]:
        """The fields that were set, as JSON values: what `Evidence.facts` holds."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


FactsType = TypeVar("FactsType", bound=Facts)


@dataclass(frozen=True)
class Measurement:
    """One quantity with one value an example.

    Attributes:
        name: Name of the quantity, such as "robust".
        unit: Its unit for the reader: "share", "logit", "pixel range".
        better: Which direction is good.
        per_example: Its values, (N,).
    """

    name: str
    unit: str
    better: Better
    per_example: Array

    @property
    def mean(self) -> float:
        """The mean over examples, in float64."""
        return float(np.mean(self.per_example, dtype=np.float64))


@dataclass(frozen=True)
class Evidence:
    """The stored outcome of a cell.

    Attributes:
        cell: The computation.
        status: Whether there are numbers; "not_applicable" and "failed" carry a reason and never look like zero.
        measurements: Quantities with one value an example.
        arrays: What is not one number an example, by name: images, curves, weights.
        facts: Small JSON values; `facts_as` gives them as the study's own model.
        forwards: Examples forwarded.
        backwards: Examples back-propagated.
        seconds: Wall-clock time.
        environment: Device, thread count, batch size and versions it ran with.
        reason: Why there are no numbers, where there are none.
    """

    cell: Cell
    status: Status
    measurements: tuple[Measurement, ...] = ()
    arrays: Mapping[str, Array] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    forwards: int = 0
    backwards: int = 0
    seconds: float = 0.0
    environment: Mapping[str, Any] = field(default_factory=dict)
    reason: Note | str = ""

    def measurement(self, name: str) -> Measurement:
        """The measurement of a name.

        Args:
            name: Such as "correct".

        Raises:
            KeyError: There is none of that name; the message lists those present.
        """
        for measurement in self.measurements:
            if measurement.name == name:
                return measurement
        raise KeyError(f"No measurement {name!r}; present: {[m.name for m in self.measurements]}")

    def facts_as(self, model: type[FactsType]) -> FactsType:
        """The facts as the model of the study that stored them.

        Args:
            model: Such as `RobustnessFacts`.

        Raises:
            ValidationError: They are those of another study.
        """
        return model.model_validate(dict(self.facts))


CheckValue: TypeAlias = str | int | float | Note | list[Note]
"""A value for the templates of a check; notes, and lists of them, are shown in the reader's language."""
Verdict = Literal["pass", "warn", "fail", "inconclusive", "informative", "not_run"]


class Finding(BaseModel):
    """What a check concludes about one model, in words, with the number it rests on.

    Attributes:
        check: Name of the check.
        role: Role of the model it is about, such as "standard".
        verdict: The outcome.
        title: One sentence with the outcome.
        explanation: What was measured, and how.
        criterion: The condition to pass.
        section: Section of the report.
        estimate: The number the verdict rests on, in `unit`; None where it rests on none.
        interval: Its 95% bounds, in `unit`.
        n: Examples it was measured on.
        unit: Unit of `estimate`.
        evidence: Keys of the cells it rests on.
        advice: What to do; empty when the check passed.
        command: What to run next; empty when the check passed.
        examples: Names of images that show it.
        values: What the templates of the sentences were filled with, for another language.
        stopping: Which rule ended the study it rests on, where that may stop early.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    check: str
    role: str
    verdict: Verdict
    title: str
    explanation: str
    criterion: str
    section: str
    estimate: float | None
    interval: tuple[float, float] | None
    n: int
    unit: str
    evidence: tuple[str, ...]
    advice: str
    command: str
    examples: tuple[str, ...]
    values: dict[str, CheckValue] = Field(default_factory=dict)
    stopping: Note = NO_NOTE
