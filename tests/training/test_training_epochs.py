"""A time budget is turned into epochs before the first step, and is a wall after it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from audit.config import TrainingConfig
from audit.core.types import Batch
from audit.training import loop
from audit.training.callbacks import TrainingCallbacks
from audit.training.epochs import affordable_epochs, budget_is_spent
from audit.training.fit import fit
from tests.training.toy import same_weights, tiny_net


@pytest.mark.parametrize(("budget", "epochs"), [(1e-9, 1), (10.0, 1), (45.0, 4), (1e6, 20)])
def test_epochs_that_fit_by_the_fastest_of_a_few_steps(budget: float, epochs: int) -> None:
    steps: Iterator[float] = iter([9.0, 0.12, 0.1, 0.3, 0.2])
    # 90 steps of 0.1 s and a validation of 1 s are 10 s an epoch.
    assert affordable_epochs(budget, 20, 90, step=lambda: next(steps), validation=lambda: 1.0) == epochs


def test_a_budget_is_spent_when_one_more_epoch_would_overrun_it() -> None:
    assert not budget_is_spent(None, [1e9])
    assert not budget_is_spent(30.0, [10.0, 10.0])
    assert budget_is_spent(26.0, [10.0, 10.0])


def test_the_planned_epochs_are_kept_for_the_resumed_training(
    examples: Batch, short: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = short.model_copy(update={"epochs": 50, "time_budget": 1000.0})
    monkeypatch.setattr(loop, "_affordable_epochs", lambda setup, net, budget: 3)
    whole = fit(tiny_net(), examples, settings, classes=3)
    assert len(whole.history) == 3 and whole.history[-1]["learning_rate"] < 0.1 * short.learning_rate

    def cut(done: int, total: int) -> None:
        assert total == 21
        if done >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(tiny_net(), examples, settings, classes=3, callbacks=TrainingCallbacks(tmp_path, cut))
    monkeypatch.setattr(loop, "_affordable_epochs", lambda setup, net, budget: pytest.fail("planned twice"))
    assert same_weights(
        fit(tiny_net(), examples, settings, classes=3, callbacks=TrainingCallbacks(tmp_path)).weights, whole.weights
    )


def test_trying_out_the_speed_leaves_no_trace_in_the_weights(examples: Batch, short: TrainingConfig) -> None:
    plain = fit(tiny_net(norm=True), examples, short, classes=3)
    timed = fit(tiny_net(norm=True), examples, short.model_copy(update={"time_budget": 1e6}), classes=3)
    assert same_weights(plain.weights, timed.weights)
    assert plain.passes == timed.passes
