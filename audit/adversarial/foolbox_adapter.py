"""Attacks of foolbox run as the suite's own: in batches, seeded by example, leaving no trace behind.

What foolbox 3.3 does and this undoes: it draws from torch's and numpy's global generators, configures the root
logger, warns on import, asserts without a sentence, returns black or NaN images where it failed, and in some attacks
lets one example of a batch steer another (those run one by one). Success is judged elsewhere: no `success` of
foolbox is read.
"""

from __future__ import annotations

import itertools
import logging
import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from audit.adversarial.result import unfit_norm
from audit.core.errors import AuditError, DataError, NotApplicable
from audit.core.note import note
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch, ClassMask, Images
from audit.models.batching import in_batches
from audit.models.under_test import ModelUnderTest

log = logging.getLogger("audit")

Goal = Literal["untargeted", "targeted", "mask"]


def run_foolbox(
    attacks: Mapping[str, str | Callable[[Any], Any]],
    model: ModelUnderTest,
    batch: Batch,
    threat: ThreatModel,
    generators: Generators,
    *,
    goals: tuple[Goal, ...] = ("untargeted", "targeted"),
    starts: Images | None = None,
    one_by_one: bool = False,
    **arguments: Any,
) -> Images:
    """Proposals of a foolbox attack, projected onto the threat model.

    Examples on which it fails come back clean.

    Args:
        attacks: By norm, foolbox's name of the attack, or what makes its class of foolbox.
        model: The model under attack.
        batch: N examples: images float32 (N, C, H, W) in [0, 1], labels, and which predictions count as misclassified.
        threat: The norm and eps of the ball.
        generators: One random generator an example.
        goals: What the attack can seek.
        starts: Misclassified images to begin from, as the batch's.
        one_by_one: For attacks whose examples influence one another.
        arguments: foolbox's own.

    Returns:
        Proposals, float32 (N, C, H, W).

    Raises:
        NotApplicable: For a norm or a goal the attack does not have.
        DataError: For images outside [0, 1].
        AuditError: When foolbox fails on every image.
    """
    if threat.norm not in attacks:
        raise NotApplicable(unfit_norm(list(attacks), threat.norm))
    check_range(batch.images)
    mask = batch.target_mask(len(model.classes))
    goal = goal_of(mask, batch.labels)
    if goal not in goals:
        raise NotApplicable(
            note(
                "attack_goal",
                "This attack seeks {goals} misclassification; a {goal} goal was given.",
                goals=" or ".join(goals),
                goal=[goal],
            )
        )
    with _isolated(model.device):
        attack = _class_of(attacks[threat.norm])(**arguments)
    run = _Run(model, attack, mask, "mask" if "mask" in goals else goal, batch, generators)
    proposals = run.one_by_one(starts) if one_by_one else run.in_batches(starts)
    return _finalise(proposals, model, mask, batch.images, threat)


def goal_of(mask: ClassMask, labels: Tensor) -> Goal:
    """What a violation mask asks for: any class but the label, one class, or neither.

    Args:
        mask: The predictions that count as misclassified, bool (N, classes).
        labels: int64 (N,).
    """
    others = torch.ones_like(mask).scatter_(1, labels[:, None], False)
    if torch.equal(mask, others):
        return "untargeted"
    return "targeted" if bool((mask.sum(1) == 1).all()) else "mask"


def check_range(images: Images) -> None:
    """Refuse images outside [0, 1].

    Args:
        images: Float32 (N, C, H, W) in [0, 1].

    Raises:
        DataError: For such images.
    """
    if len(images) and not bool(((images >= 0) & (images <= 1)).all()):
        raise DataError("Images outside [0, 1] were given to an attack: divide 8-bit images by 255 first.")


class _Run:
    """One call of one attack: what every chunk of examples needs."""

    def __init__(
        self, model: ModelUnderTest, attack: Any, mask: ClassMask, goal: Goal, batch: Batch, generators: Generators
    ) -> None:
        self.model, self.attack, self.goal, self.batch = model, attack, goal, batch
        self.mask, self.generators = mask.to(model.device), generators

    def in_batches(self, starts: Images | None) -> Images:
        """The attack on as many examples at once as memory takes."""
        batches = list(in_batches(len(self.batch), self.model.layout, lambda rows: self._attack(rows, starts)))
        return torch.cat(batches) if batches else self.batch.images.to(self.model.device)

    def one_by_one(self, starts: Images | None) -> Images:
        """The attack on each example alone; where foolbox's own assertions fail the clean image comes back."""
        proposals, failed = self.batch.images.to(self.model.device).clone(), 0
        for i in range(len(self.batch)):
            try:
                proposals[i : i + 1] = self._attack(slice(i, i + 1), starts)
            except AssertionError:
                failed += 1
        if failed:
            log.warning("%s gave up on %d of %d images.", self._name, failed, len(self.batch))
        if failed == len(self.batch) > 1:
            raise AuditError(f"{self._name} failed foolbox's own assertions on each of {failed} images: a fault there.")
        return proposals

    @property
    def _name(self) -> str:
        return type(self.attack).__name__

    def _attack(self, rows: slice, starts: Images | None) -> Images:
        device = self.model.device
        images = self.model.check_images(self.batch.images[rows])
        seeded = _seeded(Generators(self.generators.keys[rows].to(device)))
        extra = {} if starts is None else {"starting_points": seeded(starts[rows].to(device))}
        with _isolated(device):
            proposals: Tensor = self.attack.run(
                _wrapped(self.model, seeded), seeded(images), self._criterion(rows), **extra
            ).raw
        return proposals.detach().to(torch.float32)

    def _criterion(self, rows: slice) -> Any:
        criteria = _foolbox().criteria
        if self.goal == "untargeted":
            return criteria.Misclassification(self.batch.labels[rows].to(self.model.device))
        if self.goal == "targeted":
            return criteria.TargetedMisclassification(self.mask[rows].to(torch.int64).argmax(1))
        return _in_mask(self.mask[rows])


def _finalise(proposals: Images, model: ModelUnderTest, mask: ClassMask, origin: Images, threat: ThreatModel) -> Images:
    """Failures become the clean image, whatever foolbox left there; the rest obeys the threat model.

    An image that lies on the boundary to the last bit, and falls back when asked again, is pushed a little farther.
    """
    origin, mask = origin.to(proposals.device), mask.to(proposals.device)
    proposals = torch.where(proposals.isfinite().flatten(1).all(1).view(-1, 1, 1, 1), proposals, origin)
    settled, remaining = origin.clone(), torch.arange(len(proposals), device=proposals.device)
    for push in (0.0, 0.001, 0.01):
        if len(remaining) == 0:
            break
        pushed = (proposals[remaining] + push * (proposals[remaining] - origin[remaining])).clamp(0, 1)
        broken = mask[remaining].gather(1, model.predictions(pushed)[:, None])[:, 0]
        settled[remaining[broken]] = threat.project(pushed[broken], origin[remaining[broken]])
        remaining = remaining[~broken]
    return settled


def _class_of(attack: str | Callable[[Any], Any]) -> Any:
    return getattr(_foolbox().attacks, attack) if isinstance(attack, str) else attack(_foolbox())


def _foolbox() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import foolbox
    return foolbox


def _wrapped(model: ModelUnderTest, seeded: Any) -> Any:
    """The model as foolbox calls it; its logits are `seeded` too, so that all that comes of them is."""
    bounds_of_images = _foolbox().types.Bounds(0, 1)

    class Wrapped(_foolbox().models.Model):  # type: ignore[misc]
        bounds = bounds_of_images

        def __call__(self, inputs: Any) -> Any:
            images = inputs.raw
            return seeded(model.module(model.gradient_point.of(images) if images.requires_grad else images))

    return Wrapped()


def _in_mask(mask: ClassMask) -> Any:
    """foolbox's criterion for a mask; a mask of one row serves any number of outputs."""

    class InMask(_foolbox().criteria.Criterion):  # type: ignore[misc]
        def __repr__(self) -> str:
            return "InMask()"

        def __call__(self, perturbed: Any, outputs: Any) -> Any:
            predicted = outputs.raw.argmax(-1)
            return type(outputs)(mask.expand(len(predicted), -1).gather(1, predicted[:, None])[:, 0])

    return InMask()


def _seeded(generators: Generators) -> Any:
    """The type of tensor foolbox is to compute with: its random draws come from each example's own generator."""
    import eagerpy

    calls = itertools.count()

    def draw(kind: str, shape: int | tuple[int, ...]) -> Tensor:
        sizes = (shape,) if isinstance(shape, int) else tuple(shape)
        example_draws = generators.fork(next(calls))
        if len(example_draws) == 1:
            single: Tensor = getattr(example_draws, kind)(*sizes)[0]
            return single
        if sizes[0] != len(example_draws):
            raise TypeError(f"foolbox drew {sizes} for {len(example_draws)} examples: this attack must run one by one.")
        values: Tensor = getattr(example_draws, kind)(*sizes[1:])
        return values

    class Seeded(eagerpy.PyTorchTensor):  # type: ignore[misc]
        def normal(self, shape: Any, mean: float = 0.0, stddev: float = 1.0) -> Any:
            return type(self)(draw("normal", shape) * stddev + mean)

        def uniform(self, shape: Any, low: float = 0.0, high: float = 1.0) -> Any:
            return type(self)(draw("uniform", shape) * (high - low) + low)

    return Seeded


@contextmanager
def _isolated(device: torch.device) -> Iterator[None]:
    """Gradients on, new tensors on `device`; warnings, root logger and global generators as they were after."""
    root, silent = logging.getLogger(), logging.NullHandler()
    numpy_state, python_state = np.random.get_state(), random.getstate()
    root.addHandler(silent)  # else `logging.info` inside foolbox would configure the root logger
    try:
        same = torch.get_default_device() == device  # naming it anyway would double the time of small operations
        default = nullcontext() if same else torch.device(device)
        with warnings.catch_warnings(), torch.random.fork_rng(), torch.enable_grad(), default:
            warnings.simplefilter("ignore")
            yield
    finally:
        root.removeHandler(silent)
        np.random.set_state(numpy_state)
        random.setstate(python_state)
