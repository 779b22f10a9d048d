"""The numbers of examples with which a run's cost stays within a limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from audit.config import RunConfig
from audit.core.topic import topics

_STEPS = 1000


@dataclass(frozen=True)
class BudgetFit:
    """`counts`, by key, under which the run takes `seconds` at most; `enough` whether that is within the limit."""

    counts: Mapping[str, int]
    seconds: float
    within_limit: bool


def scale_to_budget(config: RunConfig, cost: Callable[[RunConfig], float], limit: float) -> BudgetFit:
    """The largest common share of every number of examples in `config` whose `cost`, in seconds, is `limit` at most.

    No number rises, falls below its own `LEAST`, or is named when it stays. Where nothing is within the limit, the
    least of each.
    """
    low, high = 0, _STEPS + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if cost(_with(config, _counts(config, middle))) <= limit else (low, middle)
    counts = _counts(config, low)
    seconds = cost(_with(config, counts))
    return BudgetFit(
        {name: number for name, number in counts.items() if number != _configured(config, name)},
        seconds,
        seconds <= limit,
    )


def minimum_examples() -> dict[str, int]:
    """By dotted key, the numbers that a run's cost follows, each with the least that still says anything."""
    return {key: least for topic in topics() for key, least in topic.minimum.items()}


def _counts(config: RunConfig, share: int) -> dict[str, int]:
    """Every number at `parts` of a thousand of what was asked."""
    counts = {}
    for key, least in minimum_examples().items():
        configured = _configured(config, key)
        counts[key] = max(min(configured, least), configured * share // _STEPS)
    return counts


def _configured(config: RunConfig, name: str) -> int:
    section, key = name.split(".")
    return int(getattr(getattr(config, section), key))


def _with(config: RunConfig, counts: Mapping[str, int]) -> RunConfig:
    changed: dict[str, dict[str, int]] = {}
    for name, count in counts.items():
        table, key = name.split(".")
        changed.setdefault(table, {})[key] = count
    tables = {table: getattr(config, table).model_copy(update=values) for table, values in changed.items()}
    return config.model_copy(update=tables)
