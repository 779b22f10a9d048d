"""What a study found: per-example numbers and arrays, with their cost and their circumstances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from audit.core.cell import Cell

Status = Literal["measured", "not_applicable", "failed"]
Better = Literal["higher", "lower", "neither"]
Array = NDArray[Any]


@dataclass(frozen=True)
class Measurement:
    """One quantity, an example at a time: `per_example` is 1-D; aggregates are made from it later.

    `unit` is for the reader ("share", "logit", "pixel range"); `better` says which direction is good.
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
    """The stored outcome of a cell. "Not applicable" and "failed" carry a reason and never look like zero.

    `arrays` hold what is not one number an example (images, curves, weights); `facts` small JSON values;
    `forwards` and `backwards` are the cost in examples; `seconds` and `environment` the circumstances.
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
    reason: str = ""

    def measurement(self, name: str) -> Measurement:
        """The measurement of that name. Raises KeyError that lists those present."""
        for one in self.measurements:
            if one.name == name:
                return one
        raise KeyError(f"No measurement {name!r}; present: {[m.name for m in self.measurements]}")


Verdict = Literal["pass", "warn", "fail", "inconclusive", "informative", "not_run"]


@dataclass(frozen=True)
class Finding:
    """What a check concludes. `estimate` and `interval` in the unit of `criterion`'s sentence; `n` examples;
    `evidence` the keys of the cells it rests on; `advice` what to do, `command` what to run; `values` what the
    sentences were filled with, for another language."""

    check: str
    role: str
    verdict: Verdict
    title: str
    explanation: str
    criterion: str
    estimate: float | None = None
    interval: tuple[float, float] | None = None
    n: int = 0
    unit: str = "share"
    evidence: tuple[str, ...] = ()
    advice: str = ""
    command: str = ""
    examples: tuple[str, ...] = ()
    section: str = ""
    values: Mapping[str, str | float] = field(default_factory=dict)
