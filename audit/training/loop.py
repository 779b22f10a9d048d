"""The training loop: one for every recipe, resumable at any step, fast where it counts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from audit.config import TrainingConfig
from audit.errors import Diverged, Interrupted
from audit.registry import find
from audit.seeding import derive_seed
from audit.threat import ThreatModel
from audit.training.averaging import Average, with_weights
from audit.training.checkpoint import FILE, read_checkpoint
from audit.training.course import Course, make_course
from audit.training.dropout import dropped_inputs
from audit.training.guard import guard
from audit.training.lesson import Outcome
from audit.training.network import Trainee
from audit.training.optimizers import clip, make_optimizer, penalty, set_rate
from audit.training.probe import Probe
from audit.training.schedule import rate_factor
from audit.training.state import State
from audit.training.weight_perturbation import worst_weights
from audit.types import Batch, Images, Passes

_LOOK_EVERY = 20
"""Steps between two looks at the device: whether the loss is finite, whether to stop."""


@dataclass(frozen=True)
class Trained:
    """`weights` of the kept epoch, a state dict on the CPU in float32; `history` one row an epoch (loss, accuracies
    as shares, rate); `kept_epoch` from 1; `passes` in examples; `seconds` an epoch; `stopped` why it ended
    before its last epoch, if it did; `notes` what the reader should know."""

    weights: Mapping[str, Tensor]
    history: tuple[Mapping[str, Any], ...]
    kept_epoch: int
    passes: Passes
    seconds: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    stopped: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Watch:
    """How a training meets the world: `scratch` a folder for its checkpoint, `progress(done, total)` in steps,
    `stopping` true when it should save and leave, `record` given the history after each epoch."""

    scratch: Path | None = None
    progress: Callable[[int, int], None] = lambda done, total: None
    stopping: Callable[[], bool] = lambda: False
    record: Callable[[Sequence[Mapping[str, Any]]], None] = lambda history: None


def fit(
    module: nn.Module,
    train: Batch,
    settings: TrainingConfig,
    *,
    classes: int,
    threat: ThreatModel | None = None,
    seed: int = 0,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    device: torch.device | str = "cpu",
    watch: Watch | None = None,
) -> Trained:
    """Train `module` in place on `train` (CPU, images in [0, 1]) and give the weights of its best epoch.

    The best is that of highest accuracy on held-out images, under attack for adversarial recipes: the last
    often is not (robust overfitting, arXiv:2002.11569). `mean` and `std` are measured where None. Killed and
    called again with the same `watch.scratch`, it ends in the same weights, bit for bit on one device. Raises
    Diverged, Interrupted, DataError, UsageError.
    """
    watch = watch or Watch()
    place = torch.device(device)
    course = make_course(train, settings, threat=threat, seed=seed, device=place)
    measured = channel_statistics(train.images)
    normal = (_each(mean, measured[0]), _each(std, measured[1]))
    net = Trainee(module, *normal, autocast=settings.precision == "bfloat16").to(place)
    net.to(memory_format=torch.channels_last).train()
    net.learn_output_kind(course.held_out.images[:4], classes)
    with _own_randomness(place), dropped_inputs(module, settings.dropout):
        state = _begin(course, net, watch)
        while not state.finished(course):
            _epoch(course, state, watch)
    weights = {name: _portable(value) for name, value in state.best.items()}
    return Trained(
        weights, tuple(state.history), state.best_epoch, net.passes, tuple(state.seconds), *normal,
        state.stopped, tuple(state.notes),
    )  # fmt: skip


def _begin(course: Course, net: Trainee, watch: Watch) -> State:
    settings = course.settings
    groups = [{"params": [p for p in net.net.parameters() if p.requires_grad], "factor": 1.0}]
    average = Average(net.net, settings.averaging) if settings.averaging else None
    state = State(net, make_optimizer(groups, settings), settings.recipe, average)
    saved = read_checkpoint(watch.scratch, course.identity())
    if saved is not None:
        state.unpack(saved, course)
    return state


def _epoch(course: Course, state: State, watch: Watch) -> None:
    begun = time.monotonic()
    state.net.train()
    order = course.order(state.epoch)
    for number in range(state.step, course.steps_per_epoch):
        if state.step % _LOOK_EVERY == 0:
            _look(course, state, watch)
        start = number * course.settings.batch_size
        _lesson(course, state, order[start : start + course.settings.batch_size])
        state.step += 1
    _require_finite(course, state, watch)
    _close_epoch(course, state, begun, watch)


def _lesson(course: Course, state: State, index: Tensor) -> None:
    """One batch: as many optimiser steps as the recipe has objectives."""
    settings, net = course.settings, state.net
    done = state.epoch * course.steps_per_epoch + state.step
    _seed_layers(course, done)
    set_rate(state.optimizer, settings.learning_rate * rate_factor(settings.schedule, done / course.total_steps))
    lesson = course.lesson(index, state.epoch, state.memory)
    for objective in find("recipe", state.recipe).function(net, lesson, **_recipe_settings(course, state)):
        with worst_weights(net, objective, settings.weight_perturbation):
            outcome = objective()
            state.optimizer.zero_grad(set_to_none=True)
            (outcome.loss + penalty(net, l1=settings.l1, l2=settings.l2)).backward()
        clip(net, settings.clip_gradient)
        state.optimizer.step()
        if state.average is not None:
            state.average.update(net.net)
    _tally(state, outcome, lesson.labels)


def _tally(state: State, outcome: Outcome, labels: Tensor) -> None:
    right = (outcome.logits.argmax(1) == labels).sum()
    state.losses.append(outcome.loss.detach())
    state.right = right if state.right is None else state.right + right


def _close_epoch(course: Course, state: State, begun: float, watch: Watch) -> None:
    settings = course.settings
    row = _measure(course, state)
    state.history.append(row)
    state.keep_if_best(row)
    state.seconds.append(time.monotonic() - begun)
    state.epoch, state.step, state.losses, state.right = state.epoch + 1, 0, [], None
    guard(course, state)
    if settings.early_stopping and state.epochs_without_gain() >= settings.early_stopping:
        state.stopped = f"no better epoch in {settings.early_stopping}"
    _save(course, state, watch)
    watch.record(state.history)
    watch.progress(state.epoch * course.steps_per_epoch, course.total_steps)


def _measure(course: Course, state: State) -> dict[str, Any]:
    settings = course.settings
    probe = Probe(
        course.held_out, course.threat, course.loss, course.seed, settings.probe_examples, settings.probe_steps
    )
    averaged = None if state.average is None else state.average.weights
    with with_weights(state.net.net, averaged):
        scores = probe(state.net)
    seen = course.steps_per_epoch * settings.batch_size
    assert state.right is not None
    return {
        "epoch": state.epoch + 1,
        "recipe": state.recipe,
        "loss": float(torch.stack(state.losses).mean()),
        "train_accuracy": int(state.right) / seen,
        **scores,
        "learning_rate": state.optimizer.param_groups[0]["lr"],
    }


def _look(course: Course, state: State, watch: Watch) -> None:
    watch.progress(state.epoch * course.steps_per_epoch + state.step, course.total_steps)
    _require_finite(course, state, watch)
    if watch.stopping():
        _save(course, state, watch)
        raise Interrupted(
            f"Training stopped as asked in epoch {state.epoch + 1} of {course.settings.epochs}; the same command goes "
            "on from there."
        )


def _save(course: Course, state: State, watch: Watch) -> None:
    if watch.scratch is not None:
        state.pack(course).write(watch.scratch)


def _require_finite(course: Course, state: State, watch: Watch) -> None:
    if not state.losses:
        return
    finite = torch.isfinite(torch.stack(state.losses)).tolist()
    if all(finite):
        return
    step = state.epoch * course.steps_per_epoch + finite.index(False)
    rate = course.settings.learning_rate * rate_factor(course.settings.schedule, step / course.total_steps)
    kept = "no checkpoint was reached"
    if state.epoch:
        where = f" in {watch.scratch / FILE}" if watch.scratch else ""
        kept = f"the last good checkpoint{where} is that of epoch {state.epoch}"
    raise Diverged(
        f"The loss was not finite at step {step + 1} of {course.total_steps} (epoch {state.epoch + 1}) with learning "
        f"rate {rate:.2g}; {kept}. Lower --learning-rate, or clip the gradient with training.clip_gradient."
    )


def _recipe_settings(course: Course, state: State) -> Mapping[str, Any]:
    return course.recipe_settings if state.recipe == course.recipe.name else find("recipe", state.recipe).defaults


@contextmanager
def _own_randomness(device: torch.device) -> Iterator[None]:
    """Layers that draw (dropout) use torch's global generators: those come back as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def _seed_layers(course: Course, step: int) -> None:
    seed = derive_seed(course.seed, "layers", step)
    torch.default_generator.manual_seed(seed)
    if course.device.type == "cuda":
        torch.cuda.manual_seed(seed)


def channel_statistics(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over all images, a constant channel's deviation being 1."""
    pixels = images.double()
    spread = pixels.std((0, 2, 3), correction=0)
    spread = spread.where(spread > 1e-6, torch.ones_like(spread))
    return tuple(pixels.mean((0, 2, 3)).tolist()), tuple(spread.tolist())


def _each(given: float | Sequence[float] | None, measured: tuple[float, ...]) -> tuple[float, ...]:
    if given is None:
        return measured
    numbers = (float(given),) if isinstance(given, int | float) else tuple(float(v) for v in given)
    return numbers * len(measured) if len(numbers) == 1 else numbers


def _portable(weight: Tensor) -> Tensor:
    weight = weight.detach().cpu().contiguous()
    return weight.float() if weight.is_floating_point() else weight
