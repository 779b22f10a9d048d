"""Neural Cleanse: for each class the smallest patch that sends every image there, and the class whose patch is odd.

A backdoor is a shortcut in the model's own geometry: one small pattern moves every image to its class. So the
smallest such pattern is sought for every class by gradient, and a class that needs far less than the others is
suspected (Wang et al. 2019, IEEE S&P, doi:10.1109/SP.2019.00031).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from audit.core.errors import NotApplicable
from audit.core.note import note
from audit.core.precise import precise, precise_device
from audit.core.registry import metric
from audit.core.seeding import Generators
from audit.core.types import Images, Labels
from audit.models.under_test import ModelUnderTest

MAD_TO_STD = 1.4826
"""Times the median absolute deviation: the standard deviation, were the areas normal."""
SUCCESS_WINDOW = 10
"""Steps over which success is averaged before the price of area changes."""
PRICE_UP, PRICE_DOWN = 1.5, 2.0
"""Factors on that price where the patch works, and where it does not."""
INITIAL_OPACITY = 0.1
"""Opacity of every pixel before the first step."""
MAX_CLASSES = 100
"""Beyond which the search, whose cost grows with them, is not begun."""


@dataclass(frozen=True)
class Triggers:
    """One patch for each of K classes.

    Attributes:
        masks: Its opacity, float32 (K, H, W) in [0, 1].
        patterns: Its colours, float32 (K, C, H, W) in [0, 1].
        reached: Whether it sent enough of the images it was made on to the class, bool (K,).
    """

    masks: Tensor
    patterns: Tensor
    reached: Tensor

    @property
    def areas(self) -> Tensor:
        """The mean opacity, float64 (K,)."""
        return precise(self.masks).flatten(1).mean(1)

    def stamped(self, images: Images, position: int) -> Images:
        """Images under one of the patches, (N, C, H, W).

        Args:
            images: Float32 (N, C, H, W) in [0, 1].
            position: Which patch, from 0: the class itself where every class was searched.
        """
        return _stamp(images, self.masks[position], self.patterns[position])


@metric(reference="doi:10.1109/SP.2019.00031", unit="share of the image", better="higher")
def smallest_triggers(
    model: ModelUnderTest,
    images: Images,
    draws: Generators,
    *,
    steps: int = 300,
    batch: int = 32,
    rate: float = 0.1,
    price: float = 1e-3,
    success: float = 0.95,
) -> Triggers:
    """The smallest patch found for each class, all classes at once: Adam on cross-entropy plus `price` x area.

    The optimisation of Neural Cleanse (Wang et al. 2019). The price of area rises while the patch sends a share of
    `success` to its class and falls while it does not; the smallest patch that did is kept. A class for which none did
    keeps its last patch, with `reached` False. The cost is steps x batch x classes forwards and as many backwards.

    Args:
        model: The model to search, of K classes.
        images: Float32 (N, C, H, W) in [0, 1].
        draws: One random generator a class.
        steps: Steps of Adam.
        batch: Images that each step stamps, for each class.
        rate: Adam's learning rate.
        price: The first weight of the area in the loss.
        success: The share of images that a patch must send to its class, in (0, 1].

    Raises:
        NotApplicable: The model has more than 100 classes.
    """
    search = TriggerSearch(model, images, draws, steps=steps, batch=batch, rate=rate, price=price, success=success)
    while not search.finished:
        search.advance()
    return search.triggers()


def anomaly_index(areas: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each area lies below the median, in consistent median absolute deviations, (K,); 0 for those above.

    Args:
        areas: Of the patches, float64 (K,).
    """
    below = np.median(areas) - areas
    spread = MAD_TO_STD * np.median(np.abs(below))
    return np.where(below > 0, below / max(float(spread), 1e-12), 0.0)


class TriggerSearch:
    """The search for the patches of some classes side by side; every quantity of one class is untouched by the others.

    Tensors have a row for every class of the model, also of those that are not searched, whose price is 0: so a number
    stands where it does in a search of all, and in vectorised operations, whose last numbers may be rounded otherwise,
    it has the same bits. Only the searched classes are asked of the model.

    Args:
        model: The model to search.
        images: Float32 (N, C, H, W) in [0, 1].
        draws: One random generator for each of these classes.
        labels: The classes, one after another; None for every class of the model.
        steps: Steps of Adam.
        batch: Images that each step stamps, for each class.
        rate: Adam's learning rate.
        price: The first weight of the area in the loss.
        success: The share of images that a patch must send to its class, in (0, 1].

    Raises:
        NotApplicable: The model has more than 100 classes.
    """

    def __init__(
        self,
        model: ModelUnderTest,
        images: Images,
        draws: Generators,
        labels: range | None = None,
        *,
        steps: int,
        batch: int,
        rate: float,
        price: float,
        success: float,
    ) -> None:
        _require_few_classes(len(model.classes), steps * batch)
        count, shape = len(model.classes), model.input_shape
        labels = range(count) if labels is None else labels
        self.searched = slice(labels.start, labels.stop)
        self.model, self.images, self.draws, self.batch, self.success = model, images, draws, batch, success
        self.done, self.steps = 0, steps
        self.labels = torch.tensor(labels, device=model.device).repeat_interleave(batch)
        opacity = torch.logit(torch.full((count, *shape[1:]), INITIAL_OPACITY, device=model.device))
        self.opacity = opacity.requires_grad_(True)
        self.colour = torch.zeros(count, *shape, device=model.device, requires_grad=True)
        self.adam = torch.optim.Adam([self.opacity, self.colour], lr=rate, betas=(0.5, 0.9))
        self.price = torch.zeros(count, device=model.device)
        self.price[self.searched] = price
        self.window = torch.zeros(count, device=model.device)
        self.best_area = torch.full((count,), torch.inf, dtype=torch.float64, device=precise_device(model.device))
        self.best_mask, self.best_pattern = self._masks(), self._patterns()

    @property
    def finished(self) -> bool:
        """Whether all steps were taken."""
        return self.done >= self.steps

    def advance(self) -> None:
        """Take the steps up to the next change of the price, or the last ones."""
        for _ in range(min(SUCCESS_WINDOW, self.steps - self.done)):
            self._step(self.done)
            self.done += 1
        if self.done % SUCCESS_WINDOW == 0:
            self._reprice()

    def state(self) -> dict[str, Tensor]:
        """All that the steps after the last change of the price depend on, by name."""
        adam = {
            f"adam/{parameter}/{name}": tensor
            for parameter, values in self.adam.state_dict()["state"].items()
            for name, tensor in values.items()
        }
        return {name: getattr(self, name).detach() for name in _STATE} | adam

    def restore(self, state: Mapping[str, Tensor], done: int) -> None:
        """Go on from what `state` gave, of a search of the same classes with the same settings.

        Args:
            state: By name, as `state` gives it; on any device.
            done: The steps that led to it.
        """
        with torch.no_grad():
            for name in _STATE:
                getattr(self, name).copy_(state[name])
        groups: dict[str, Any] = self.adam.state_dict()
        adam: dict[int, dict[str, Tensor]] = {}
        for key, tensor in state.items():
            if key.startswith("adam/"):
                _, parameter, name = key.split("/")
                adam.setdefault(int(parameter), {})[name] = tensor
        self.adam.load_state_dict({**groups, "state": adam})
        self.done = done

    def _masks(self) -> Tensor:
        """Opacity in [0, 1], (K, H, W)."""
        return self.opacity.detach().sigmoid()

    def _patterns(self) -> Tensor:
        """Colours in [0, 1], (K, C, H, W)."""
        return self.colour.detach().sigmoid()

    def _step(self, number: int) -> None:
        """One step of Adam; the images' gradients are chained to mask and pattern by hand."""
        mask, pattern, searched = self.opacity.sigmoid(), self.colour.sigmoid(), self.searched
        index = self.draws.fork(number).integers(len(self.images), self.batch).to(self.images.device)
        inputs = _stamp(self.images[index], mask[searched, None], pattern[searched, None])
        result = self.model.loss_gradient(inputs.detach().flatten(0, 1), self.labels, _cross_entropy)
        hits = (result.logits.argmax(1) == self.labels).view(-1, self.batch)
        self.window[searched] += hits.float().mean(1) / SUCCESS_WINDOW
        size = self.price * mask[0].numel()
        area = (size * mask.flatten(1).mean(1)).sum()
        self.adam.zero_grad()
        torch.autograd.backward([inputs, area], [result.gradient.view_as(inputs) / self.batch, torch.ones_like(area)])
        self.adam.step()

    def _reprice(self) -> None:
        """Keep what worked and is smaller; ask for less area of what works, allow more to what does not."""
        works = self.window >= self.success
        area = precise(self._masks()).flatten(1).mean(1)
        smaller = works.to(area.device) & (area < self.best_area)
        self.best_area = torch.where(smaller, area, self.best_area)
        better = smaller.to(works.device)
        self.best_mask = torch.where(better[:, None, None], self._masks(), self.best_mask)
        self.best_pattern = torch.where(better[:, None, None, None], self._patterns(), self.best_pattern)
        self.price = torch.where(works, self.price * PRICE_UP, self.price / PRICE_DOWN)
        self.window.zero_()

    def triggers(self) -> Triggers:
        """The smallest that worked, the last where none did."""
        worked = self.best_area.isfinite().to(self.best_mask.device)
        masks = torch.where(worked[:, None, None], self.best_mask, self._masks())
        patterns = torch.where(worked[:, None, None, None], self.best_pattern, self._patterns())
        return Triggers(masks[self.searched], patterns[self.searched], worked[self.searched])


_STATE = ("opacity", "colour", "price", "best_area", "best_mask", "best_pattern")


def _require_few_classes(classes: int, passes_a_class: int) -> None:
    if classes > MAX_CLASSES:
        raise NotApplicable(
            note(
                "triggers_many",
                "The search for triggers is made for up to {most} classes, and this model has {classes}: it would cost "
                "{passes} passes each way.",
                most=MAX_CLASSES,
                classes=classes,
                passes=f"{passes_a_class * classes:,}",
            )
        )


def _stamp(images: Images, mask: Tensor, pattern: Tensor) -> Tensor:
    """`images` under a pattern as opaque as `mask`, which lacks the axis of channels."""
    opacity = mask.unsqueeze(-3)
    return images * (1 - opacity) + opacity * pattern


def _cross_entropy(logits: Tensor, labels: Labels) -> Tensor:
    return functional.cross_entropy(logits, labels, reduction="none")
