"""The guard against catastrophic overfitting: a single-step recipe that has learnt to beat only its own step."""

from __future__ import annotations

from audit.training.setup import TrainingSetup
from audit.training.state import TrainingState

COLLAPSE = 0.8
"""Held-out robust accuracy below this share of the best so far is a collapse, not noise. A partial one counts: at 0.5
a net that fell from 0.65 to 0.4 was never rescued."""


def recover_from_overfitting(course: TrainingSetup, state: TrainingState) -> None:
    """After an epoch: when held-out accuracy under several attack steps has collapsed, put the best weights back,
    start the optimiser afresh and go on with the recipe that `falls_back_to` names (arXiv:2001.03994, section 5)."""
    successor = course.recipe.facts.get("falls_back_to")
    if successor is None or state.recipe == successor:
        return
    now, best = (state.history[i]["robust_accuracy"] for i in (-1, state.best_epoch - 1))
    if now >= COLLAPSE * best:
        return
    state.net.net.load_state_dict(state.best)
    state.optimizer.state.clear()
    if state.average is not None:
        state.average.restore(state.best, 0)
    state.recipe = str(successor)
    state.notes.append(
        f"Catastrophic overfitting in epoch {state.epoch}: held-out robust accuracy fell from {best:.0%} to {now:.0%}. "
        f"The weights of epoch {state.best_epoch} were put back and training went on with {successor}."
    )
