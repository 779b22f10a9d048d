"""A test of whether a model is given images as it was trained on, by its accuracy under other preparations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.special import bdtrc
from torch import Tensor, nn

from audit.core.errors import ModelError
from audit.core.note import NO_NOTE, Note, note
from audit.core.types import Batch, Images, Labels
from audit.models.outputs import OutputReader

_NEEDED_GAIN = 0.1
_SIGNIFICANCE = 0.01
"""Another preparation "fits far better" when it wins this much accuracy and chance would seldom do so."""


@dataclass(frozen=True)
class Preparation:
    """What is done to images in [0, 1] before the net: channels, sides, pixels, then (x - mean) / std.

    Attributes:
        name: As the report calls it.
        mean: Subtracted, one number or one a channel.
        std: Divided by after that.
        reversed_channels: Whether RGB becomes BGR.
        swapped_sides: Whether height and width change places.
        inverted: Whether a pixel x becomes 1 - x.
    """

    name: str
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    reversed_channels: bool = False
    swapped_sides: bool = False
    inverted: bool = False

    def __call__(self, images: Images) -> Images:
        """The images as the net gets them."""
        images = images.flip(1) if self.reversed_channels else images
        images = images.transpose(2, 3) if self.swapped_sides else images
        images = 1 - images if self.inverted else images
        mean, std = (images.new_tensor(numbers).view(1, -1, 1, 1) for numbers in (self.mean, self.std))
        return (images - mean) / std


@dataclass(frozen=True)
class PreprocessingTrial:
    """The accuracy under a preparation.

    Attributes:
        preparation: The preparation.
        correct: Whether each example was predicted right, bool (N,).
        ran: False where the net did not run on such images.
    """

    preparation: Preparation
    correct: NDArray[np.bool_]
    ran: bool = True

    @property
    def accuracy(self) -> float:
        """Share of examples predicted right."""
        return float(self.correct.mean())


@dataclass(frozen=True)
class ProbeOutcome:
    """What the probe measured.

    Attributes:
        configured: The trial of the configured normalisation.
        trials: Every trial, best first.
        warning: One sentence; empty when no other preparation or order fits far better.
        order: The class that each output seems to mean, where that is another order than the data's; else empty.
    """

    configured: PreprocessingTrial
    trials: tuple[PreprocessingTrial, ...]
    warning: Note
    order: tuple[int, ...] = ()


def candidates(channels: int) -> tuple[Preparation, ...]:
    """The preparations that trainers use.

    Args:
        channels: Channels of the images.
    """
    plain = (
        Preparation("pixels in 0 to 1"),
        Preparation("pixels in -1 to 1", (0.5,), (0.5,)),
        Preparation("pixels in 0 to 255", (0.0,), (1 / 255,)),
        Preparation("inverted pixels in 0 to 1", inverted=True),
        Preparation("height and width swapped", swapped_sides=True),
    )
    if channels == 1:
        return (
            *plain,
            Preparation("MNIST's mean and std", (0.1307,), (0.3081,)),
            Preparation("Fashion-MNIST's mean and std", (0.2860,), (0.3530,)),
        )
    imagenet, cifar = (
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    )
    caffe = tuple(v / 255 for v in (103.939, 116.779, 123.68))
    return (
        *plain,
        Preparation("ImageNet's mean and std", *imagenet),
        Preparation("CIFAR-10's mean and std", *cifar),
        Preparation("BGR in 0 to 1", reversed_channels=True),
        Preparation("BGR in -1 to 1", (0.5,), (0.5,), reversed_channels=True),
        Preparation("BGR in 0 to 255 less ImageNet's mean (Caffe)", caffe, (1 / 255,), reversed_channels=True),
    )


def probe_preprocessing(
    net: nn.Module,
    batch: Batch,
    *,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
    classes: Sequence[str] = (),
    skip_above: float = 2.0,
    reader: OutputReader | None = None,
) -> ProbeOutcome:
    """Accuracy of a net as configured and under every candidate.

    The net runs in eval mode and is left in the mode it had. A hundred examples show any difference that matters.

    Args:
        net: The bare net, without normalisation inside.
        batch: Labelled images in [0, 1].
        mean: The configured normalisation.
        std: What it divides by after that.
        classes: Class names in label order, for the warning.
        skip_above: The candidates are left out when the accuracy as configured is at least this.
        reader: How logits are read from what the net returns; None takes them for logits.
    """
    configured = Preparation("as given", tuple(mean), tuple(std))
    reader = reader or OutputReader(len(classes) or int(batch.labels.max()) + 1)
    configured_outputs = _outputs(net, configured, batch.images, reader)
    first = _trial(configured, configured_outputs, batch.labels)
    if first.accuracy >= skip_above:
        return ProbeOutcome(first, (first,), NO_NOTE)
    others = {
        candidate: _outputs(net, candidate, batch.images, reader) for candidate in candidates(batch.images.shape[1])
    }
    outputs = {configured: configured_outputs, **others}
    trials = {key: _trial(key, logits, batch.labels) for key, logits in outputs.items()}
    ranked = tuple(sorted(trials.values(), key=lambda trial: (-trial.accuracy, trial.preparation.name)))
    best = ranked[0]
    order, accuracy = _order(outputs[configured], batch.labels)
    if order and accuracy >= best.accuracy:
        return ProbeOutcome(trials[configured], ranked, _order_warning(order, classes), order)
    better = _far_better(best.correct, trials[configured].correct)
    warning = _preparation_warning(best, trials[configured]) if better else NO_NOTE
    return ProbeOutcome(trials[configured], ranked, warning)


def _outputs(net: nn.Module, preparation: Preparation, images: Images, reader: OutputReader) -> Tensor | None:
    """Logits (N, classes); None where the net does not run on such images."""
    modes = {layer: layer.training for layer in net.modules()}
    try:
        with torch.no_grad():
            net.eval()
            return torch.cat([reader(net(part), len(part)) for part in torch.split(preparation(images), 64)])
    except (RuntimeError, ValueError, ModelError):
        return None
    finally:
        for layer, training in modes.items():
            layer.training = training


def _trial(preparation: Preparation, outputs: Tensor | None, labels: Labels) -> PreprocessingTrial:
    if outputs is None:
        return PreprocessingTrial(preparation, np.zeros(len(labels), dtype=bool), ran=False)
    return PreprocessingTrial(preparation, (outputs.argmax(1) == labels).cpu().numpy())


def _far_better(other: NDArray[np.bool_], configured: NDArray[np.bool_]) -> bool:
    """By enough, and by McNemar's exact test not by chance."""
    wins, losses = int((other & ~configured).sum()), int((configured & ~other).sum())
    if not other.size or other.mean() - configured.mean() < _NEEDED_GAIN:
        return False
    return bool(bdtrc(wins - 1, wins + losses, 0.5) < _SIGNIFICANCE)


def _order(outputs: Tensor | None, labels: Labels) -> tuple[tuple[int, ...], float]:
    """The class that each output seems to mean, and the accuracy then: found on one half of the examples, believed
    when it holds on the other. Empty when the data's own order is as good."""
    if outputs is None:
        return (), 0.0
    predicted, actual = outputs.argmax(1).cpu().numpy(), labels.cpu().numpy()
    size = outputs.shape[1]
    table = np.zeros((size, size))
    np.add.at(table, (predicted[::2], actual[::2]), 1)
    table += np.eye(size) * 1e-6  # where nothing tells, the data's own order
    meaning = linear_sum_assignment(table, maximize=True)[1]
    moved = meaning[predicted[1::2]] == actual[1::2]
    if not _far_better(moved, predicted[1::2] == actual[1::2]):
        return (), 0.0
    return tuple(int(label) for label in meaning), float(moved.mean())


def _preparation_warning(best: PreprocessingTrial, configured: PreprocessingTrial) -> Note:
    preparation = best.preparation
    flags = f"--mean {_flag(preparation.mean)} --std {_flag(preparation.std)}"
    by_flags = not (preparation.reversed_channels or preparation.swapped_sides or preparation.inverted)
    return note(
        "model_better",
        "The model is right on {now} of {count} images as given, and on {best} with {how}.",
        now=f"{configured.accuracy:.0%}",
        count=len(configured.correct),
        best=f"{best.accuracy:.0%}",
        how=note("model_give", "{preparation}: give {flags}", preparation=preparation.name, flags=flags)
        if by_flags
        else preparation.name,
    )


def _order_warning(order: tuple[int, ...], classes: Sequence[str]) -> Note:
    moved = [(output, label) for output, label in enumerate(order) if output != label]
    if not moved:
        return NO_NOTE
    names = [(output, classes[label] if label < len(classes) else str(label)) for output, label in moved[:4]]
    listed = ", ".join(f"output {output} behaves as {name!r}" for output, name in names)
    return note(
        "model_order",
        "The model's outputs seem to be in another order than the data's classes ({listed}): list the classes in the "
        "model's order in a labels map.",
        listed=listed,
    )


def _flag(numbers: tuple[float, ...]) -> str:
    return ",".join(f"{number:.4g}" for number in numbers)
