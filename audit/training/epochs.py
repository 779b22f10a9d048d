"""Decisions between epochs: how many fit a time budget, when to stop early, when to undo catastrophic overfitting."""

from __future__ import annotations

import time
from collections.abc import Callable

from audit.core.note import note
from audit.models.load_state import load_state
from audit.training.setup import TrainingSetup
from audit.training.state import TrainingState

COLLAPSE = 0.8
"""Held-out robust accuracy below this share of the best so far is a collapse, not noise. A partial one counts: at 0.5
a net that fell from 0.65 to 0.4 was never rescued."""
_TIMED_STEPS = 4
_OVERRUN = 1.1


def seconds_of(action: Callable[[], object]) -> float:
    """Time a call.

    Args:
        action: What to call.

    Returns:
        The seconds it took.
    """
    started = time.monotonic()
    action()
    return time.monotonic() - started


def affordable_epochs(
    budget: float, most: int, steps_per_epoch: int, *, step: Callable[[], float], validation: Callable[[], float]
) -> int:
    """Count the epochs that fit into a time budget, going by a few steps and one validation.

    Args:
        budget: Seconds.
        most: The most epochs to take, at least 1.
        steps_per_epoch: Steps of an epoch.
        step: Takes a step and gives the seconds it took.
        validation: Validates once and gives the seconds it took.

    Returns:
        The number of epochs, from 1 to `most`.
    """
    step()
    fastest = min(step() for _ in range(_TIMED_STEPS))
    return max(1, min(most, int(budget / (fastest * steps_per_epoch + validation()))))


def budget_is_spent(budget: float | None, seconds: list[float]) -> bool:
    """Tell whether another epoch like the slowest so far would overrun a time budget by more than a tenth.

    Args:
        budget: Seconds; None for no budget.
        seconds: The time each epoch took.
    """
    return budget is not None and sum(seconds) + max(seconds) > budget * _OVERRUN


def stop_early(setup: TrainingSetup, state: TrainingState) -> None:
    """After an epoch: write into `state.stopped` why no other is to follow, where the settings say so.

    Args:
        setup: The setup of the training.
        state: The state after the epoch.
    """
    settings = setup.settings
    if settings.early_stopping and state.epochs_without_improvement() >= settings.early_stopping:
        state.stopped = f"no better epoch in {settings.early_stopping}"
    elif state.epoch < state.epochs and budget_is_spent(settings.time_budget, state.seconds):
        state.stopped = f"the time budget of {settings.time_budget:g} s was spent"


def recover_from_overfitting(setup: TrainingSetup, state: TrainingState) -> None:
    """After an epoch: undo catastrophic overfitting (Wong et al. 2020, arXiv:2001.03994, section 5).

    When a single-step recipe has learnt to beat only its own step, so that held-out accuracy under several steps has
    collapsed, the best weights are put back, the optimiser starts afresh, and training goes on with the recipe that
    the recipe's `falls_back_to` names.

    Args:
        setup: The setup of the training.
        state: The state after the epoch.
    """
    successor = setup.recipe.facts.get("falls_back_to")
    if successor is None or state.recipe == successor:
        return
    last, best = (state.history[i]["robust_accuracy"] for i in (-1, state.best_epoch - 1))
    if last >= COLLAPSE * best:
        return
    load_state(state.net.net, state.best_weights)
    state.optimizer.state.clear()
    if state.ema is not None:
        state.ema.restore(state.best_weights, 0)
    state.recipe = str(successor)
    state.notes.append(
        note(
            "training_overfitting",
            "Catastrophic overfitting in epoch {epoch}: held-out robust accuracy fell from {best} to {now}. The "
            "weights of epoch {kept} were put back and training went on with {successor}.",
            epoch=state.epoch,
            best=f"{best:.0%}",
            now=f"{last:.0%}",
            kept=state.best_epoch,
            successor=str(successor),
        )
    )
