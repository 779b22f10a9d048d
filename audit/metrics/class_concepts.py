"""The concepts of one class: what they are, how much the class's logit depends on each, and against which controls.

As CRAFT (arXiv:2211.10154) has it, with one difference: where it rebuilds a map as (U * M) V, here the parts that are
masked away are taken off the map, Z - ((1 - M) * U) V, so that the factors' own error stays in place and M = 1 is the
model as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audit.core.evidence import Array
from audit.core.precise import precise
from audit.core.types import Images, Labels, Logits
from audit.explanation.concept_factorisation import concept_coefficients, factorise
from audit.explanation.layer_tail import LayerTail
from audit.explanation.positions import Order
from audit.metrics.concept_activation import concept_vector, tcav_score
from audit.metrics.sobol import jansen_design, total_sensitivity

_AT_ONCE = 256
"""Maps of a layer held at once."""
_EXAMPLE_SHARE = 0.15
"""The share of crops, those that hold most of a concept, that stand for it in its test."""
_FEWEST_EXAMPLES = 6
_SCORED = 5
"""Random sets that a score is the mean over; the test is over all of them."""
_CONTROLS = 4
"""Random directions that each concept is compared with."""


@dataclass(frozen=True)
class ConceptLayer:
    """The layer that concepts are read from.

    Attributes:
        tail: The net after it.
        order: How its output's axes are to be permuted to (N, K, h, w).
    """

    tail: LayerTail
    order: Order

    def maps(self, images: Images) -> Tensor:
        """Its output, channels first, (N, K, h, w).

        Args:
            images: Float32 (N, C, H, W) in [0, 1].
        """
        return self.tail.maps(images).permute(self.order)

    def pooled(self, images: Images) -> Tensor:
        """The positive part of its output, averaged over positions, (N, K).

        Args:
            images: Float32 (N, C, H, W) in [0, 1].
        """
        return torch.cat([self.maps(part).clamp(min=0).mean((2, 3)) for part in torch.split(images, _AT_ONCE)])

    def output(self, maps: Tensor, images: Images, label: int) -> Tensor:
        """The logit of a class above the mean of the logits, (N,).

        Args:
            maps: What the layer gives, channels first, (N, K, h, w).
            images: The images they are of.
            label: The class.
        """
        back = [self.order.index(axis) for axis in range(4)]
        return precise(above_mean(label)(self.tail.logits(maps.permute(back), images)))

    def gradients(self, images: Images, label: int) -> Tensor:
        """The derivative of the same to each channel, over all positions, (N, K).

        Args:
            images: Float32 (N, C, H, W) in [0, 1].
            label: The class.
        """
        parts = [self.tail.gradient(self.tail.maps(p), p, above_mean(label)) for p in torch.split(images, _AT_ONCE)]
        return torch.cat([part.permute(self.order).sum((2, 3)) for part in parts])


def above_mean(label: int) -> Callable[[Logits], Tensor]:
    """Takes logits, (N, classes), and gives how far that of a class lies above their mean, (N,).

    Args:
        label: The class.
    """
    return lambda logits: logits[:, label] - logits.mean(1)


@dataclass(frozen=True)
class ClassConcepts:
    """The concepts of a class, r of them, on its n images.

    Attributes:
        directions: (r, K), of length 1.
        weights: How much of each concept every crop holds, (crops, r).
        maps: How much of it each position of each image holds, (n, r, h, w).
        explained: The share of the squared activations of each image that the concepts account for, (n,).
        sensitivity: The total Sobol index of each concept at each image, (n, r).
        deletion: What taking a concept off lowers the output by, (n, r).
        deletion_control: The same with random directions of as much energy, on average, (n, r).
        insertion: What a concept alone raises the output by, where all were taken off, (n, r).
        insertion_control: The same with random directions of as much energy, on average, (n, r).
        tcav: The TCAV score of each concept, the mean over random sets, (r,).
        tcav_random: That of random sets, (1,).
        along: How far the crops that hold most of each concept lie along the mean gradient, (r,).
        along_random: The same of each random set of crops, (sets,).
    """

    directions: Array
    weights: Array
    maps: Array
    explained: Array
    sensitivity: Array
    deletion: Array
    deletion_control: Array
    insertion: Array
    insertion_control: Array
    tcav: Array
    tcav_random: Array
    along: Array
    along_random: Array


@dataclass(frozen=True)
class ConceptEffort:
    """How much is asked.

    Attributes:
        count: Concepts of a class.
        points: Points of the Sobol design, a power of two.
        sets: Random sets of crops that each is tested against.
    """

    count: int
    points: int
    sets: int


def class_concepts(
    layer: ConceptLayer,
    images: Images,
    label: int,
    crops: Tensor,
    pool: Tensor,
    effort: ConceptEffort,
    generator: np.random.Generator,
) -> ClassConcepts:
    """Find and measure the concepts of a class.

    Args:
        layer: Where.
        images: Images of the class, float32 (n, C, H, W) in [0, 1].
        label: The class.
        crops: Pooled activations of crops of these images, (crops, K).
        pool: Pooled activations of crops of images of every class, from which random sets are drawn, (crops', K).
        effort: How much is asked.
        generator: For random sets and directions.
    """
    weights, directions = factorise(crops.cpu().numpy(), effort.count, int(generator.integers(1 << 31)))
    maps = layer.maps(images)
    rows = torch.from_numpy(directions).to(maps)
    held = concept_coefficients(maps.permute(0, 2, 3, 1), rows).permute(0, 3, 1, 2)
    removal = _Removal(layer, images, label, maps, held, rows)
    positive = precise(maps.clamp(min=0))
    residual = positive - precise(torch.einsum("nrhw,rk->nkhw", held, rows))
    energy = positive.square().flatten(1).sum(1).clamp(min=1e-300)
    tests = _concept_tests(layer, images, label, crops, pool, weights, effort.sets, generator)
    return ClassConcepts(
        directions,
        weights,
        held.cpu().numpy(),
        (1 - residual.square().flatten(1).sum(1) / energy).cpu().numpy(),
        removal.sensitivity(effort.points, generator),
        *removal.against_random(generator),
        *tests,
    )


class _Removal:
    """The output where parts of the concepts are taken off the maps."""

    def __init__(
        self, layer: ConceptLayer, images: Images, label: int, maps: Tensor, held: Tensor, directions: Tensor
    ) -> None:
        self.layer, self.images, self.label = layer, images, label
        self.maps, self.held, self.directions = maps, held, directions

    def sensitivity(self, points: int, generator: np.random.Generator) -> Array:
        """The total Sobol index of each concept at each image, (n, r), each image with masks of its own."""
        count = len(self.directions)
        seeds = generator.integers(1 << 31, size=len(self.images))
        masks = np.stack([jansen_design(count, points, int(seed)) for seed in seeds], 1)
        removed = 1 - torch.from_numpy(masks).to(self.maps)
        answers = self._without(removed, self.directions.expand(len(removed), *self.directions.shape))
        return np.clip(total_sensitivity(answers.cpu().numpy(), count), 0, 1).T  # no true index is larger

    def against_random(self, generator: np.random.Generator) -> tuple[Array, Array, Array, Array]:
        """Deletion and insertion of each concept, each followed by its control; (n, r) each.

        A control has the concept's amounts at each position, along a direction made of the same numbers in another
        order of the channels that are ever active. An insertion is to the map without any concept.
        """
        count, images = len(self.directions), len(self.images)
        one = torch.eye(count, device="cpu").to(self.maps)[:, None].expand(count, images, count)
        tried = [self.directions, *(self._shuffled(generator) for _ in range(_CONTROLS))]
        zero, whole = torch.zeros_like(one[:1]), torch.ones_like(one[:1])
        own = self.directions.expand(1, *self.directions.shape)
        intact, bare = self._without(torch.cat([zero, whole]), own.expand(2, -1, -1))
        parts = torch.cat([one] * len(tried))
        along = torch.stack([directions for directions in tried for _ in range(count)])
        empty = self.maps - torch.einsum("nrhw,rk->nkhw", self.held, self.directions)
        lowered = intact - self._without(parts, along)
        raised = self._without(-parts, along, empty) - bare
        columns = []
        for change in (lowered, raised):
            by_direction = change.view(len(tried), count, images).transpose(1, 2)
            columns += [by_direction[0], by_direction[1:].mean(0)]
        deletion, control, insertion, insertion_control = (column.cpu().numpy() for column in columns)
        return deletion, control, insertion, insertion_control

    def _without(self, removed: Tensor, directions: Tensor, maps: Tensor | None = None) -> Tensor:
        """The output of each image, (m, n), with an amount of each concept, (m, n, r), along (m, r, K), taken off."""
        images, whole = len(self.images), self.maps if maps is None else maps
        answers = []
        for rows in torch.split(torch.arange(len(removed), device="cpu"), max(1, _AT_ONCE // images)):
            part = torch.einsum("nrhw,mnr,mrk->mnkhw", self.held, removed[rows], directions[rows])
            changed = (whole - part).flatten(0, 1)
            repeated = self.images.repeat(len(rows), 1, 1, 1)
            answers.append(self.layer.output(changed, repeated, self.label).view(len(rows), images))
        return torch.cat(answers)

    def _shuffled(self, generator: np.random.Generator) -> Tensor:
        active = (self.maps > 0).any(0).flatten(1).any(1).cpu().numpy().nonzero()[0]
        shuffled = self.directions.clone()
        for row in range(len(shuffled)):
            shuffled[row, active] = shuffled[row, generator.permutation(active)]
        return shuffled


def _concept_tests(
    layer: ConceptLayer,
    images: Images,
    label: int,
    crops: Tensor,
    pool: Tensor,
    weights: Array,
    sets: int,
    generator: np.random.Generator,
) -> tuple[Array, Array, Array, Array]:
    gradients = layer.gradients(images, label).cpu().numpy()
    rows = crops.cpu().numpy()
    examples = min(len(rows), max(_FEWEST_EXAMPLES, round(_EXAMPLE_SHARE * len(rows))))
    concepts = [rows[np.argsort(-column, kind="stable")[:examples]] for column in weights.T]
    return concept_scores(gradients, concepts, pool.cpu().numpy(), sets, generator)


def concept_scores(
    gradients: Array, concepts: list[Array], pool: Array, sets: int, generator: np.random.Generator
) -> tuple[Array, Array, Array, Array]:
    """The TCAV scores of concepts and of random sets, and how far their examples lie along the gradient.

    Args:
        gradients: Of the output to the activations of each image of a class, (n, K).
        concepts: Activations of the examples of each concept, as many of each, (m, K) each.
        pool: Activations that random sets of as many are drawn from, (M, K).
        sets: The number of random sets.
        generator: Draws them.

    Returns:
        Float64: the mean score of each concept, (r,), and that of random sets, (1,); the mean projection of each
        concept's examples on the mean gradient, (r,), and that of each random set, (sets,).
    """
    examples = min(len(concepts[0]), len(pool) // 2)
    drawn = [pool[generator.choice(len(pool), examples, replace=False)] for _ in range(sets)]
    against = drawn[:_SCORED]
    scores = [np.mean([tcav_score(gradients, concept_vector(c, other)) for other in against]) for c in concepts]
    random = [tcav_score(gradients, concept_vector(drawn[-1 - index], other)) for index, other in enumerate(against)]
    mean = np.asarray(gradients, np.float64).mean(0)
    along, along_random = ([float((part @ mean).mean()) for part in parts] for parts in (concepts, drawn))
    return np.array(scores), np.array([np.mean(random)]), np.array(along), np.array(along_random)


def class_positions(labels: Labels, least: int, most: int) -> dict[int, Tensor]:
    """By class, the positions of its examples, of the first classes that have enough.

    Args:
        labels: Int64 (N,).
        least: Examples of a class at least.
        most: Classes at most.
    """
    positions = {int(label): (labels == label).nonzero().flatten() for label in set(labels.tolist())}
    enough = {label: rows for label, rows in sorted(positions.items()) if len(rows) >= least}
    return dict(list(enough.items())[:most])
