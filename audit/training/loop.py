"""The training loop: the same for every recipe, and resumable at any step."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from audit.config import TrainingConfig
from audit.core.registry import find
from audit.core.seeding import restored_global_rng
from audit.core.threat import ThreatModel
from audit.core.types import Images, Labels, Logits, PassCount, concatenate
from audit.models.detectors.form import DetectorForm
from audit.models.module_copy import copy_module
from audit.models.precision import ieee_float32
from audit.training.around_net import compiled, dropout_before_head
from audit.training.awp import adversarial_weight_perturbation
from audit.training.callbacks import STEPS_BETWEEN_CHECKS, TrainingCallbacks
from audit.training.detection import DetectionModule, DetectionValidator
from audit.training.distributed import WorkerGroup
from audit.training.epochs import affordable_epochs, recover_from_overfitting, seconds_of, stop_early
from audit.training.memory import fitting
from audit.training.optimisation import (
    ENDS_AT_ZERO,
    ModelEma,
    clip_gradient,
    make_optimizer,
    rate_factor,
    set_learning_rate,
    weight_penalty,
    with_weights,
)
from audit.training.precision import choose_precision
from audit.training.setup import TrainingSetup, build_setup
from audit.training.shares import BatchShares
from audit.training.state import TrainingResult, TrainingState
from audit.training.step import Objective, StepOutput
from audit.training.training_data import TrainingData
from audit.training.training_module import TrainingModule
from audit.training.transfer import frozen_backbone, parameter_groups
from audit.training.validation import Validator, selection_error, selection_score


def run_training(
    workers: WorkerGroup,
    *,
    module: nn.Module,
    data: TrainingData,
    settings: TrainingConfig,
    classes: int,
    threat: ThreatModel | None,
    seed: int,
    normalisation: tuple[tuple[float, ...], tuple[float, ...]],
    device: torch.device,
    teacher: Callable[[Images], Logits] | None = None,
    callbacks: TrainingCallbacks | None = None,
) -> TrainingResult:
    """Train as one process of a group; all end with the same weights.

    Args:
        workers: This process among those that train together.
        module: The net, trained in place.
        data: What this process holds of the images.
        settings: The configuration of the training.
        classes: The number of classes.
        threat: The adversary, which adversarial recipes need.
        seed: The seed of every draw.
        normalisation: Mean and standard deviation of each channel, in units of [0, 1].
        device: Where this process trains.
        teacher: The logits (N, classes) of another model on `device`, for distillation.
        callbacks: What to call on the way.

    Returns:
        The best weights and the history.

    Raises:
        AuditError: As `audit.training.fit.fit` says.
    """
    callbacks = callbacks or TrainingCallbacks()
    setup = build_setup(data, settings, threat=threat, seed=seed, device=device, teacher=teacher, workers=workers)
    net = _training_module(module, normalisation, autocast=settings.precision == "bfloat16").to(device)
    net.train()
    first = data.first.to(device)
    net.choose_layout(first)
    notes = (*setup.notes, *choose_precision(net, setup, first))
    net.learn_outputs(first, classes)
    with restored_global_rng(device):
        net.require_gradients(first, adversarial=setup.threat is not None)
    if setup.threat is not None:
        channels, height, width = first.shape[1:]
        net.learn_gradient_point((channels, height, width), setup.threat.norm)
    sample = net.normalised(first)
    with (
        restored_global_rng(device),
        ieee_float32(),
        dropout_before_head(module, settings.dropout),
        compiled(module, settings.compile, sample),
    ):
        state = _start_or_resume(setup, net, callbacks)
        notes += net.gradient_point.notes
        state.notes += [sentence for sentence in notes if sentence not in state.notes]
        while not state.finished():
            _epoch(setup, state, callbacks)
    forwards, backwards = workers.total((net.forwards, net.backwards))
    result = replace(state.result(*normalisation), passes=PassCount(forwards, backwards))
    return replace(result, notes=(*result.notes, *net.notes))


def _training_module(
    module: nn.Module, normalisation: tuple[tuple[float, ...], tuple[float, ...]], *, autocast: bool
) -> TrainingModule:
    if isinstance(module, DetectorForm):
        return DetectionModule(module, autocast=autocast)
    return TrainingModule(module, *normalisation, autocast=autocast)


def _start_or_resume(setup: TrainingSetup, net: TrainingModule, callbacks: TrainingCallbacks) -> TrainingState:
    state = _initial_state(setup, net)
    if state.resume(setup, callbacks.scratch):
        return state
    callbacks.warn_if_settings_changed(setup)
    if setup.settings.time_budget is not None:
        state.epochs = _affordable_epochs(setup, net, setup.settings.time_budget)
    return state


def _initial_state(setup: TrainingSetup, net: TrainingModule) -> TrainingState:
    settings = setup.settings
    groups = parameter_groups(net.net, settings.backbone_rate, head_apart=settings.optimizer == "muon")
    optimizer = make_optimizer(groups, settings)
    ema = ModelEma(net.net, settings.averaging) if settings.averaging else None
    return TrainingState(net, optimizer, settings.recipe, settings.epochs, ema)


def _affordable_epochs(setup: TrainingSetup, net: TrainingModule, budget: float) -> int:
    """Time a few steps on a copy, which leaves no trace in the training itself."""
    trial = _initial_state(setup, copy_module(net))
    if setup.settings.compile:
        trial.net.net.compile()  # a copy is not compiled
    indices = {share: order[: setup.share_size] for share, order in setup.epoch_order(0).items()}
    epochs = affordable_epochs(
        budget,
        setup.settings.epochs,
        setup.steps_per_epoch,
        step=lambda: seconds_of(lambda: _train_step(setup, trial, indices)),
        validation=lambda: seconds_of(lambda: _validate(setup, trial)),
    )
    return setup.workers.from_rank0(lambda: epochs)


def _epoch(setup: TrainingSetup, state: TrainingState, callbacks: TrainingCallbacks) -> None:
    started = time.monotonic()
    orders, size = setup.epoch_order(state.epoch), setup.share_size
    state.net.train()
    with frozen_backbone(state.net.net, state.epoch < setup.settings.frozen_epochs):
        for number in range(state.step, setup.steps_per_epoch):
            if number % STEPS_BETWEEN_CHECKS == 0:
                callbacks.on_step(setup, state)
            rows = slice(number * size, (number + 1) * size)
            _train_step(setup, state, {share: order[rows] for share, order in orders.items()})
            state.step += 1
    callbacks.require_finite(setup, state)
    _close_epoch(setup, state, started)
    callbacks.finish_epoch(setup, state)


def _train_step(setup: TrainingSetup, state: TrainingState, indices: Mapping[int, Tensor]) -> None:
    """Learn one batch, with as many optimiser steps as the recipe has objectives."""
    settings, net, done = setup.settings, state.net, state.steps_done(setup)
    shares = BatchShares(net.net, setup.workers, settings.shares, setup.device, seed=setup.seed, step=done)
    progress = done / state.total_steps(setup)
    set_learning_rate(state.optimizer, settings.learning_rate * rate_factor(settings.schedule, progress))
    steps = [
        setup.training_step(share, rows, state.epoch, state.recipe_states.setdefault(share, {}), progress)
        for share, rows in indices.items()
    ]
    recipe = find("recipe", state.recipe)
    recipe_settings = setup.recipe_settings if recipe is setup.recipe else recipe.defaults
    running = [recipe.function(net, step, **recipe_settings) for step in steps]
    while True:
        objectives = [each for each in shares.each(lambda position: next(running[position], None)) if each]
        if not objectives:
            break
        loss, correct = _descend(setup, state, shares, objectives, [step.labels for step in steps])
    state.losses.append(loss)
    state.correct = correct if state.correct is None else state.correct + correct


def _descend(
    setup: TrainingSetup,
    state: TrainingState,
    shares: BatchShares,
    objectives: Sequence[Objective],
    labels: Sequence[Labels],
) -> tuple[Tensor, Tensor]:
    """Take one step of the optimiser; the mean loss of the batch and the share classified right, scalars."""
    net, settings = state.net, setup.settings

    def once(position: int) -> list[Tensor]:
        output = objectives[position]()
        state.optimizer.zero_grad(set_to_none=True)
        (output.loss + weight_penalty(net, l1=settings.l1, l2=settings.l2)).backward()  # type: ignore[no-untyped-call]
        return [output.loss.detach().clone(), _batch_accuracy(output, labels[position]), *_gradients(net)]

    def backward(position: int) -> list[Tensor]:
        return fitting(net, lambda: once(position))

    def ascent(weights: Sequence[Tensor]) -> list[Tensor]:
        def climbed(position: int) -> Sequence[Tensor]:
            return fitting(net, lambda: torch.autograd.grad(objectives[position]().loss, weights))

        return shares.mean(climbed)

    with adversarial_weight_perturbation(net, settings.weight_perturbation, ascent):
        loss, correct, *means = shares.mean(backward)
    for gradient, mean in zip(_gradients(net), means, strict=True):
        if mean is not gradient:
            gradient.copy_(mean)
    clip_gradient(net, settings.clip_gradient)
    state.optimizer.step()
    if state.ema is not None:
        state.ema.update(net.net)
    return loss, correct


def _gradients(net: nn.Module) -> list[Tensor]:
    return [parameter.grad for parameter in net.parameters() if parameter.grad is not None]


def _batch_accuracy(output: StepOutput, labels: Tensor) -> Tensor:
    """The share of the batch that was classified right, a scalar in [0, 1]; 0 of a detector's, which has no such."""
    if output.logits is None:
        return output.loss.new_zeros(())
    return (output.logits.argmax(1) == labels).to(output.loss.dtype).mean()


def _close_epoch(setup: TrainingSetup, state: TrainingState, started: float) -> None:
    row = _validate(setup, state)
    state.history.append(row)
    state.update_best(row, _selection_error(setup, state))
    state.seconds.append(setup.workers.from_rank0(lambda: time.monotonic() - started))
    state.epoch, state.step, state.losses, state.correct = state.epoch + 1, 0, [], None
    recover_from_overfitting(setup, state)
    stop_early(setup, state)


def _selection_error(setup: TrainingSetup, state: TrainingState) -> float:
    """By how much the last epoch may be below the best and is kept: not at all where its rate is not zero.

    Nor where the share is of proofs, which no sample of attacks blurs, or the score is mAP.
    """
    exact = setup.detects or setup.recipe.facts.get("proves")
    if exact or state.epoch + 1 < state.epochs or setup.settings.schedule not in ENDS_AT_ZERO:
        return 0.0
    images = setup.data.held_out_count if setup.threat is None else setup.data.attacked_count
    return selection_error(max(selection_score(row)[0] for row in state.history), images)


def _validate(setup: TrainingSetup, state: TrainingState) -> dict[str, Any]:
    """The history's row of the running epoch."""
    validator = (
        DetectionValidator(
            concatenate([part.batch for part in setup.held_out]),
            setup.threat,
            setup.seed,
            setup.settings.probe_examples,
            setup.settings.probe_steps,
        )
        if setup.detects
        else Validator(
            setup.held_out,
            setup.workers.total,
            setup.data.held_out_count,
            setup.data.attacked_count,
            setup.threat,
            setup.loss,
            setup.seed,
            setup.settings.probe_steps,
            proves=bool(setup.recipe.facts.get("proves")),
        )
    )
    with with_weights(state.net.net, None if state.ema is None else state.ema.weights), state.net.in_float32():
        scores = validator(state.net)
    assert state.correct is not None
    accuracy = {} if setup.detects else {"train_accuracy": float(state.correct) / len(state.losses)}
    return {
        "epoch": state.epoch + 1,
        "recipe": state.recipe,
        "loss": float(torch.stack(state.losses).mean()),
        **accuracy,
        **scores,
        "learning_rate": state.optimizer.param_groups[-1]["lr"],
    }
