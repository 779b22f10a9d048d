"""Numbers of examples with which the cost of a run stays within a time limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from audit.config import RunConfig
from audit.core.topic import topics

_STEPS = 1000


@dataclass(frozen=True)
class BudgetFit:
    """The numbers of examples that were chosen for a time limit.

    Attributes:
        counts: By dotted configuration key, each number of examples that was reduced.
        seconds: What the run then costs at most.
        within_limit: Whether that is within the limit.
    """

    counts: Mapping[str, int]
    seconds: float
    within_limit: bool


def scale_to_budget(config: RunConfig, cost: Callable[[RunConfig], float], limit: float) -> BudgetFit:
    """Reduce all numbers of examples by one common factor, the largest with which the cost is within a limit.

    No number rises or falls below its `Topic.minimum`. Where nothing is within the limit, every number is at its
    minimum.

    Args:
        config: The configuration of the run.
        cost: Gives the cost of a configuration, in seconds; it must not fall as a number of examples rises.
        limit: The limit, in seconds.
    """
    low, high = 0, _STEPS + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if cost(with_counts(config, _counts(config, middle))) <= limit else (low, middle)
    counts = _counts(config, low)
    seconds = cost(with_counts(config, counts))
    return BudgetFit(
        {name: number for name, number in counts.items() if number != _configured(config, name)},
        seconds,
        seconds <= limit,
    )


def minimum_examples() -> dict[str, int]:
    """By dotted configuration key, the least number of examples that still gives a meaningful result."""
    return {key: least for topic in topics() for key, least in topic.minimum.items()}


def _counts(config: RunConfig, share: int) -> dict[str, int]:
    """Every number of examples at `share` thousandths of what is configured."""
    counts = {}
    for key, least in minimum_examples().items():
        configured = _configured(config, key)
        counts[key] = max(min(configured, least), configured * share // _STEPS)
    return counts


def no_more_than(config: RunConfig, examples: Mapping[str, int]) -> RunConfig:
    """A configuration with no more examples than some numbers.

    Args:
        config: The configuration of the run.
        examples: By dotted configuration key, the most.
    """
    return with_counts(config, {key: min(most, _configured(config, key)) for key, most in examples.items()})


def _configured(config: RunConfig, name: str) -> int:
    section, key = name.split(".")
    return int(getattr(getattr(config, section), key))


def with_counts(config: RunConfig, counts: Mapping[str, int]) -> RunConfig:
    """A configuration with other numbers of examples.

    Args:
        config: The configuration of the run.
        counts: By dotted configuration key.
    """
    changed: dict[str, dict[str, int]] = {}
    for name, count in counts.items():
        table, key = name.split(".")
        changed.setdefault(table, {})[key] = count
    tables = {table: getattr(config, table).model_copy(update=values) for table, values in changed.items()}
    return config.model_copy(update=tables)
