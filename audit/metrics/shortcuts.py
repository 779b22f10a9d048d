"""Shortcuts: attribution that sits in one place over many images of a class, confirmed by exchanging that place.

Clustering heatmaps is spectral relevance analysis (Lapuschkin et al. 2019, Nature Communications 10:1096). A place
alone proves nothing (objects gather too), so the model is tested: put what the class shows there on images of other
classes, and see whether they join it; take it away, and see whether its own leave. A shortcut in less than about a
quarter of a class's images is missed.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from audit.core.precise import precise
from audit.core.seeding import Generators
from audit.core.types import Attributions, Batch, Labels
from audit.models.under_test import ModelUnderTest

HOT_FACTOR = 3.0
"""A pixel is hot where the mean share of the positive attribution is this many times even,"""
MIN_HOT_SHARE = 0.7
"""and above even in this share of the images."""
MAX_REGION_SHARE = 0.3
"""A region over more of the image than this is no place."""
MIN_EFFECT = 0.33
"""The effect that confirms a shortcut. Measured on trained nets: planted ones 0.37 to 0.87; gatherings of objects at
most 0.12 where they move, and up to 0.35 where they all stand in the middle (the trousers of Fashion-MNIST)."""
MIN_EFFECT_PER_AREA = 6.0
"""And the effect for each part of the image exchanged: a larger part of an object brings more of its class by itself.
Measured: planted shortcuts 9 to 15, the trousers at most 4.3. So no place larger than a sixth of the image is
confirmed: that large, a shortcut cannot be told from an object that stands where it always stands."""
MIN_CLUSTER_IMAGES = 8
"""Images of a class, or of a cluster of its heatmaps, below which nothing is concluded."""


@dataclass(frozen=True)
class ShortcutCandidate:
    """A place that holds the attribution of many images of a class.

    Attributes:
        label: The class.
        region: The place, bool (H, W).
        images: Positions in the batch of the images that show it, int64.
        share: Of their positive attribution inside it, in [0, 1].
    """

    label: int
    region: Tensor
    images: Tensor
    share: float


@dataclass(frozen=True)
class ShortcutTest:
    """How predictions follow when a candidate's place is exchanged between images.

    The controls are the same exchanges with donors of the other kind, so that what any foreign content does in that
    place is taken off.

    Attributes:
        suspect: The candidate.
        transplanted: Share of other classes' images that join the class once their place shows what images of the
            class have there.
        joined_anyway: The control: share that joins with donors of other classes.
        removed: Share of the class's images that leave it once their place shows another class's.
        left_anyway: The control: share that leaves with donors of the class.
    """

    suspect: ShortcutCandidate
    transplanted: float
    joined_anyway: float
    removed: float
    left_anyway: float

    @property
    def effect(self) -> float:
        """What the place's content alone brings to the class: enough to decide, even where the object would do too."""
        return self.transplanted - self.joined_anyway

    @property
    def confirmed(self) -> bool:
        """Whether the place alone decides, for enough images and for more than its size explains."""
        area = float(precise(self.suspect.region).mean())
        return self.effect >= max(MIN_EFFECT, MIN_EFFECT_PER_AREA * area)


def shortcut_candidates(attributions: Attributions, labels: Labels, *, seed: int = 0) -> list[ShortcutCandidate]:
    """The places worth a test, of each class as a whole and of each cluster of its heatmaps.

    Args:
        attributions: Float (N, C or 1, H, W).
        labels: The class explained of each image, int64 (N,).
        seed: Of the clustering.
    """
    shares = positive_shares(attributions)
    candidates: list[ShortcutCandidate] = []
    for label in sorted(set(labels.tolist())):
        of_label = (labels == label).nonzero().flatten()
        for members in [of_label, *(of_label[group] for group in clusters(shares[of_label], seed=seed))]:
            candidate = _candidate(label, shares, members)
            if candidate is not None:
                candidates.append(candidate)
    return candidates


def confirm_shortcuts(
    model: ModelUnderTest, batch: Batch, candidates: Sequence[ShortcutCandidate], *, generators: Generators
) -> list[ShortcutTest]:
    """Each class's confirmed shortcut, strongest first; empty where the model takes none.

    Of several, the earlier (the whole class before its clusters) unless a later one is clearly stronger.

    Args:
        model: The model to test.
        batch: The images explained, with labels.
        candidates: The places to test.
        generators: One random generator an image, for the donors.
    """
    best: dict[int, ShortcutTest] = {}
    for candidate in candidates:
        test = evaluate_candidate(model, batch, candidate, generators=generators)
        before = best[candidate.label].effect if candidate.label in best else 0.0
        if test.confirmed and test.effect > 1.2 * before:
            best[candidate.label] = test
    return sorted(best.values(), key=lambda test: -test.effect)


def positive_shares(attributions: Attributions) -> Tensor:
    """Each pixel's share of its map's positive part, lightly blurred, (N, H, W); even where nothing is positive.

    Args:
        attributions: Float (N, C or 1, H, W).
    """
    positive = attributions.sum(1, keepdim=True).clamp(min=0)
    smooth = functional.avg_pool2d(positive, 3, stride=1, padding=1, count_include_pad=False).squeeze(1)
    smooth = smooth + 1e-12
    return smooth / smooth.sum((1, 2), keepdim=True)


def clusters(shares: Tensor, *, seed: int = 0, most: int = 4) -> list[Tensor]:
    """Groups of like heatmaps, as positions, by spectral clustering, as many as silhouettes prefer; none if too few.

    Args:
        shares: Of the positive attribution, (N, H, W), see `positive_shares`.
        seed: Of the clustering.
        most: Groups at most.
    """
    from sklearn.cluster import SpectralClustering
    from sklearn.metrics import silhouette_score

    if len(shares) < 2 * MIN_CLUSTER_IMAGES:
        return []
    side = min(8, *shares.shape[1:])
    coarse = functional.adaptive_avg_pool2d(shares[:, None], side).flatten(1).cpu().double().numpy()
    features = np.sqrt(coarse / coarse.sum(1, keepdims=True))
    best: tuple[float, list[Tensor]] = (0.0, [])
    for count in range(2, most + 1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a graph of several parts is what is looked for
            groups = SpectralClustering(
                count, affinity="nearest_neighbors", n_neighbors=min(10, len(features) - 1), random_state=seed
            ).fit_predict(features)
        if len(set(groups)) < 2:
            continue
        quality = float(silhouette_score(features, groups))
        if quality > best[0]:
            best = quality, [torch.from_numpy(np.flatnonzero(groups == g)) for g in sorted(set(groups))]
    return best[1]


def evaluate_candidate(
    model: ModelUnderTest, batch: Batch, candidate: ShortcutCandidate, *, generators: Generators, most: int = 200
) -> ShortcutTest:
    """Exchange the candidate's place among images of its class and of others, four ways.

    Args:
        model: The model to test.
        batch: The images explained, with labels.
        candidate: The place to test.
        generators: One random generator an image, for the donors.
        most: Images of the class, and of others, at most.
    """
    of_class = (batch.labels == candidate.label).nonzero().flatten()[:most]
    others = (batch.labels != candidate.label).nonzero().flatten()[:most]
    exchanges = [(others, of_class), (others, others), (of_class, others), (of_class, of_class)]
    shares = [
        _moved(model, batch, candidate, receivers, donors, generators.fork(number))
        for number, (receivers, donors) in enumerate(exchanges)
    ]
    return ShortcutTest(candidate, *shares)


def _moved(
    model: ModelUnderTest,
    batch: Batch,
    candidate: ShortcutCandidate,
    receivers: Tensor,
    donors: Tensor,
    generators: Generators,
) -> float:
    """The share of `receivers` that enter or leave the candidate's class when their place shows a random donor's."""
    inside = candidate.region.to(batch.images.device)
    donor = donors[generators.select(receivers).integers(len(donors), 1).flatten()]
    mixed = torch.where(inside, batch.images[donor], batch.images[receivers])
    before = model.predictions(batch.images[receivers]) == candidate.label
    after = model.predictions(mixed) == candidate.label
    right = before == (batch.labels[receivers] == candidate.label)
    return float(((before != after) & right).sum() / right.sum().clamp(min=1))


def _candidate(label: int, shares: Tensor, members: Tensor) -> ShortcutCandidate | None:
    if len(members) < MIN_CLUSTER_IMAGES:
        return None
    members_shares = shares[members]
    even = 1 / members_shares[0].numel()
    often = precise(members_shares >= even).mean(0) >= MIN_HOT_SHARE
    hot = (members_shares.mean(0) >= HOT_FACTOR * even) & often.to(shares.device)
    if not bool(hot.any()) or float(precise(hot).mean()) > MAX_REGION_SHARE:
        return None
    return ShortcutCandidate(int(label), hot.cpu(), members.cpu(), float((members_shares * hot).sum((1, 2)).mean()))
