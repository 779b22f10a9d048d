"""Whether the model's classes stand in the order of the data's."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.config import RunConfig
from audit.core.note import note
from audit.core.registry import check
from audit.core.statistics import share_of
from audit.results.check_result import CheckResult, template_values
from audit.results.queries import cell_keys
from audit.results.run_results import RunResults

_SHOWN = 6


@check(
    section="accuracy",
    priority=5,
    title_pass="The classes of the {role} model stand in the order of the data's",
    title_fail="The classes of the {role} model seem to stand in another order: it would be right on {estimate:.1%} of "
    "images where it is on {now:.1%}",
    explanation="The order that fits its answers best was found on every other image, and these shares are of the {n} "
    "images between. By it, counted from 0: {pairs}",
    criterion="No other order may be right on more images, by 95% intervals that do not touch.",
    advice="Say in which order the model names its classes: `--labels-map FILE`, one a line from the first output on.",
)
def class_order(results: RunResults, role: str, config: RunConfig) -> CheckResult | None:
    """A warning where another order of the classes fits the model's answers better; nothing where none does.

    Args:
        results: The run.
        role: Role of the model.
        config: Unused: the intervals decide.
    """
    logits = results.array("accuracy", "logits", role=role)
    labels = results.array("accuracy", "labels", role=role)
    if logits is None or labels is None or len(labels) < 4 or not results.labelled:
        return None
    predicted, classes = logits.argmax(1), logits.shape[1]
    order = fitting_order(predicted[::2], labels[::2], classes)
    now, fitted = share_of(predicted[1::2] == labels[1::2]), share_of(order[predicted[1::2]] == labels[1::2])
    if fitted.low <= now.high:
        return None
    moved = [(output, int(label)) for output, label in enumerate(order) if output != label]
    pairs = [note("output_is_class", "Output {output} is class {label}.", output=o, label=c) for o, c in moved[:_SHOWN]]
    entries = cell_keys(results.entries("accuracy", role=role))
    return CheckResult("warn", fitted, entries, template_values(fitted, now=now.estimate, pairs=pairs))


def fitting_order(predicted: NDArray[Any], labels: NDArray[Any], classes: int) -> NDArray[Any]:
    """The class that each output is best taken for, each class once: the assignment with the most right answers.

    Args:
        predicted: Outputs, int (N,).
        labels: Classes, int (N,).
        classes: How many there are.

    Returns:
        Classes by output, int64 (classes,); an output stays with its own where no other is better.
    """
    from scipy.optimize import linear_sum_assignment

    counts = np.zeros((classes, classes))
    np.add.at(counts, (predicted, labels), 1.0)
    counts += 0.5 / classes * np.eye(classes)
    order: NDArray[Any] = linear_sum_assignment(counts, maximize=True)[1]
    return order
