"""The training loop: one for every recipe, resumable at any step, fast where it counts."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from audit.config import TrainingConfig
from audit.core.registry import find
from audit.core.seeding import derive_seed
from audit.core.threat import ThreatModel
from audit.core.types import Batch, Images, Logits, PassCount
from audit.training.awp import adversarial_weight_perturbation
from audit.training.budget import affordable_epochs, spent, timed
from audit.training.callbacks import TrainingCallbacks
from audit.training.catastrophic_overfitting import recover_from_overfitting
from audit.training.checkpoint import load_training_checkpoint
from audit.training.compilation import compiled
from audit.training.distributed import WorkerGroup
from audit.training.dropout import dropped_inputs
from audit.training.ema import ModelEma, with_weights
from audit.training.optimizers import clip, make_optimizer, penalty, set_rate
from audit.training.schedule import rate_factor
from audit.training.setup import TrainingSetup, build_setup
from audit.training.state import TrainingState
from audit.training.step import StepOutput
from audit.training.training_module import TrainingModule
from audit.training.transfer import frozen_backbone, parameter_groups
from audit.training.validation import Validator

_LOOK_EVERY = 20
"""Steps between two looks at the device: whether the loss is finite, whether to stop."""


@dataclass(frozen=True)
class TrainingResult:
    """`weights` of the kept epoch, a state dict on the CPU in float32; `history` one row an epoch (loss, accuracies
    as shares, rate); `kept_epoch` from 1; `passes` in examples; `seconds` an epoch; `stopped` why it ended
    before its last epoch, if it did; `notes` what the reader should know."""

    weights: Mapping[str, Tensor]
    history: tuple[Mapping[str, Any], ...]
    kept_epoch: int
    passes: PassCount
    seconds: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    stopped: str = ""
    notes: tuple[str, ...] = ()


def run_training(
    team: WorkerGroup,
    *,
    module: nn.Module,
    train: Batch,
    settings: TrainingConfig,
    classes: int,
    threat: ThreatModel | None,
    seed: int,
    normal: tuple[tuple[float, ...], tuple[float, ...]],
    device: torch.device,
    teacher: Callable[[Images], Logits] | None = None,
    watch: TrainingCallbacks | None = None,
) -> TrainingResult:
    """`audit.training.fit.fit` as one member of `team`, with the normalisation known; every member ends with the same
    weights."""
    watch = watch or TrainingCallbacks()
    place = torch.device("cuda", team.rank) if device.type == "cuda" and team.size > 1 else device
    course = build_setup(train, settings, threat=threat, seed=seed, device=place, teacher=teacher, team=team)
    net = TrainingModule(module, *normal, autocast=settings.precision == "bfloat16").to(place)
    net.to(memory_format=torch.channels_last).train()
    net.learn_output_kind(course.held_out.images[:4], classes)
    sample = ((course.held_out.images[:4] - net.mean) / net.std).contiguous(memory_format=torch.channels_last)
    with (
        _own_randomness(place),
        dropped_inputs(module, settings.dropout),
        compiled(module, settings.compile, sample),
    ):
        state = _begin(course, net, watch)
        while not state.finished():
            _epoch(course, state, watch)
    return _trained(state, normal)


def _begin(course: TrainingSetup, net: TrainingModule, watch: TrainingCallbacks) -> TrainingState:
    state = _fresh_state(course, net)
    saved = course.team.first(lambda: load_training_checkpoint(watch.scratch, course.identity()))
    if saved is not None:
        state.unpack(saved, course)
        return state
    watch.begin_anew(course)
    if course.settings.time_budget is not None:
        state.epochs = _affordable(course, net, course.settings.time_budget)
    return state


def _fresh_state(course: TrainingSetup, net: TrainingModule) -> TrainingState:
    settings = course.settings
    optimizer = make_optimizer(parameter_groups(net.net, settings.backbone_rate), settings)
    average = ModelEma(net.net, settings.averaging) if settings.averaging else None
    return TrainingState(net, optimizer, settings.recipe, settings.epochs, average)


def _affordable(course: TrainingSetup, net: TrainingModule, budget: float) -> int:
    """Try a few steps on a copy, which leaves no trace in the training itself."""
    trial = _fresh_state(course, copy.deepcopy(net))
    if course.settings.compile:
        trial.net.net.compile()  # a copy is not compiled
    index = course.order(0)[: course.batch_share]
    found = affordable_epochs(
        budget,
        course.settings.epochs,
        course.steps_per_epoch,
        step=timed(lambda: _train_step(course, trial, index)),
        probe=timed(lambda: course.team.first(lambda: _measure(course, trial))),
    )
    return course.team.first(lambda: found)


def _epoch(course: TrainingSetup, state: TrainingState, watch: TrainingCallbacks) -> None:
    begun = time.monotonic()
    order, size = course.order(state.epoch), course.batch_share
    state.net.train()
    with frozen_backbone(state.net.net, state.epoch < course.settings.frozen_epochs):
        for number in range(state.step, course.steps_per_epoch):
            if number % _LOOK_EVERY == 0:
                watch.look(course, state)
            _train_step(course, state, order[number * size : (number + 1) * size])
            state.step += 1
    watch.require_finite(course, state)
    _close_epoch(course, state, begun)
    watch.close_epoch(course, state)


def _train_step(course: TrainingSetup, state: TrainingState, index: Tensor) -> None:
    """One batch: as many optimiser steps as the recipe has objectives."""
    settings, net, done = course.settings, state.net, state.steps_done(course)
    net.copies = course.team.size
    _seed_layers(course, done)
    set_rate(state.optimizer, settings.learning_rate * rate_factor(settings.schedule, done / state.total_steps(course)))
    lesson = course.lesson(index, state.epoch, state.memory)
    recipe = find("recipe", state.recipe)
    chosen = course.recipe_settings if recipe is course.recipe else recipe.defaults
    for objective in recipe.function(net, lesson, **chosen):
        with adversarial_weight_perturbation(net, objective, settings.weight_perturbation, course.team.average):
            outcome = objective()
            state.optimizer.zero_grad(set_to_none=True)
            (outcome.loss + penalty(net, l1=settings.l1, l2=settings.l2)).backward()
        loss, right = outcome.loss.detach().clone(), _batch_accuracy(outcome, lesson.labels)
        course.team.average([*_exchanged(net.net), loss, right])
        clip(net, settings.clip_gradient)
        state.optimizer.step()
        if state.average is not None:
            state.average.update(net.net)
    state.losses.append(loss)
    state.right = right if state.right is None else state.right + right


def _exchanged(net: nn.Module) -> list[Tensor]:
    """What differs between the processes of a team after a backward pass: gradients and batch statistics."""
    gradients = [parameter.grad for parameter in net.parameters() if parameter.grad is not None]
    return gradients + [buffer for buffer in net.buffers() if buffer.is_floating_point()]


def _batch_accuracy(outcome: StepOutput, labels: Tensor) -> Tensor:
    """The share of the batch that was classified right."""
    return (outcome.logits.argmax(1) == labels).to(outcome.loss.dtype).mean()


def _close_epoch(course: TrainingSetup, state: TrainingState, begun: float) -> None:
    settings = course.settings
    row = course.team.first(lambda: _measure(course, state))
    state.history.append(row)
    state.keep_if_best(row)
    state.seconds.append(course.team.first(lambda: time.monotonic() - begun))
    state.epoch, state.step, state.losses, state.right = state.epoch + 1, 0, [], None
    recover_from_overfitting(course, state)
    if settings.early_stopping and state.epochs_without_gain() >= settings.early_stopping:
        state.stopped = f"no better epoch in {settings.early_stopping}"
    elif state.epoch < state.epochs and spent(settings.time_budget, state.seconds):
        state.stopped = f"the time budget of {settings.time_budget:g} s was spent"


def _measure(course: TrainingSetup, state: TrainingState) -> dict[str, Any]:
    settings = course.settings
    state.net.copies = 1
    probe = Validator(
        course.held_out, course.threat, course.loss, course.seed, settings.probe_examples, settings.probe_steps
    )
    averaged = None if state.average is None else state.average.weights
    with with_weights(state.net.net, averaged):
        scores = probe(state.net)
    assert state.right is not None
    return {
        "epoch": state.epoch + 1,
        "recipe": state.recipe,
        "loss": float(torch.stack(state.losses).mean()),
        "train_accuracy": float(state.right) / len(state.losses),
        **scores,
        "learning_rate": state.optimizer.param_groups[-1]["lr"],
    }


def _trained(state: TrainingState, normal: tuple[tuple[float, ...], tuple[float, ...]]) -> TrainingResult:
    return TrainingResult(
        weights={name: _portable(value) for name, value in state.best.items()},
        history=tuple(state.history),
        kept_epoch=state.best_epoch,
        passes=state.net.passes,
        seconds=tuple(state.seconds),
        mean=normal[0],
        std=normal[1],
        stopped=state.stopped,
        notes=tuple(state.notes),
    )


@contextmanager
def _own_randomness(device: torch.device) -> Iterator[None]:
    """Layers that draw (dropout) use torch's global generators: those come back as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def _seed_layers(course: TrainingSetup, step: int) -> None:
    member = (course.team.rank,) if course.team.rank else ()
    seed = derive_seed(course.seed, "layers", step, *member)
    torch.default_generator.manual_seed(seed)
    if course.device.type == "cuda":
        torch.cuda.manual_seed(seed)


def _portable(weight: Tensor) -> Tensor:
    weight = weight.detach().cpu().contiguous()
    return weight.float() if weight.is_floating_point() else weight
