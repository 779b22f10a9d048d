"""Shortcuts: attribution that sits in one place over many images of a class, confirmed by exchanging that place.

Clustering heatmaps is spectral relevance analysis (Lapuschkin et al. 2019, Nature Communications 10:1096). A place
alone proves nothing (objects gather too), so the model is asked: put what the class shows there on images of other
classes, and see whether they join it; take it away, and see whether its own leave. What is shown by less than about a
third of a class is not found.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from audit.models.under_test import ModelUnderTest
from audit.seeding import Generators
from audit.types import Attributions, Batch, Labels

HOT = 3.0
"""A pixel is hot where the mean share of the positive attribution is this many times even,"""
STEADY = 0.7
"""and above even in this share of the images."""
LARGEST = 0.3
"""A region over more of the image than this is no place."""
FEWEST = 8
"""Images of a class, or of a cluster of its heatmaps, below which nothing is concluded."""


@dataclass(frozen=True)
class Suspect:
    """A place that holds attribution: `region` bool (H, W); `images` the positions in the batch that show it;
    `share` of their positive attribution inside it."""

    label: int
    region: Tensor
    images: Tensor
    share: float


@dataclass(frozen=True)
class Trial:
    """What the model says of a suspect: `removed`, the share of the class's images that leave it once the place
    shows another class's content; `transplanted`, the share of other images that join it once theirs shows what any
    image of the class has there; `control`, the larger of both for a place of the same form elsewhere."""

    suspect: Suspect
    removed: float
    transplanted: float
    control: float

    @property
    def effect(self) -> float:
        """The smaller of both exchanges' shares: a shortcut must pass both."""
        return min(self.removed, self.transplanted)

    def confirmed(self, least: float = 0.3) -> bool:
        """Whether the place alone decides: both exchanges matter, and clearly more than the control's."""
        return self.effect >= least and self.effect >= 2 * self.control


def suspects(attributions: Attributions, labels: Labels, *, seed: int = 0) -> list[Suspect]:
    """The places worth a trial, of each class as a whole and of each cluster of its heatmaps.

    `labels` int64 (N,), the class explained.
    """
    shares = positive_shares(attributions)
    found: list[Suspect] = []
    for label in sorted(set(labels.tolist())):
        mine = (labels == label).nonzero().flatten()
        for members in [mine, *(mine[group] for group in clusters(shares[mine], seed=seed))]:
            one = _suspect(label, shares, members)
            if one is not None:
                found.append(one)
    return found


def convict(
    model: ModelUnderTest, batch: Batch, candidates: Sequence[Suspect], *, generators: Generators
) -> list[Trial]:
    """Each class's confirmed trial, strongest first; empty where the model takes no shortcut.

    Of several, the earlier (the whole class before its clusters) unless a later one is clearly stronger.
    """
    best: dict[int, Trial] = {}
    for suspect in candidates:
        trial = try_suspect(model, batch, suspect, generators=generators)
        before = best[suspect.label].effect if suspect.label in best else 0.0
        if trial.confirmed() and trial.effect > 1.2 * before:
            best[suspect.label] = trial
    return sorted(best.values(), key=lambda trial: -trial.effect)


def positive_shares(attributions: Attributions) -> Tensor:
    """Each pixel's share of its map's positive part, lightly blurred, (N, H, W); even where nothing is positive."""
    positive = attributions.sum(1, keepdim=True).clamp(min=0)
    smooth = functional.avg_pool2d(positive, 3, stride=1, padding=1, count_include_pad=False).squeeze(1)
    smooth = smooth + 1e-12
    return smooth / smooth.sum((1, 2), keepdim=True)


def clusters(shares: Tensor, *, seed: int = 0, most: int = 4) -> list[Tensor]:
    """Groups of like heatmaps, as positions, by spectral clustering, as many as silhouettes prefer; none if too few."""
    from sklearn.cluster import SpectralClustering
    from sklearn.metrics import silhouette_score

    if len(shares) < 2 * FEWEST:
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


def try_suspect(
    model: ModelUnderTest, batch: Batch, suspect: Suspect, *, generators: Generators, most: int = 200
) -> Trial:
    """Exchange the suspect's place between its images and images of other classes, and a control place likewise."""
    own = (batch.labels == suspect.label).nonzero().flatten()[:most]
    others = (batch.labels != suspect.label).nonzero().flatten()[:most]
    height, width = suspect.region.shape
    elsewhere = suspect.region.roll((height // 2, width // 2), (0, 1)) & ~suspect.region
    if not bool(elsewhere.any()):
        elsewhere = ~suspect.region
    removed, transplanted = _exchange(model, batch, own, others, suspect.region, generators)
    control = max(_exchange(model, batch, own, others, elsewhere, generators.fork(1)))
    return Trial(suspect, removed, transplanted, control)


def _exchange(
    model: ModelUnderTest, batch: Batch, own: Tensor, others: Tensor, region: Tensor, generators: Generators
) -> tuple[float, float]:
    """The shares of `own` that leave their class without the region's content, and of `others` that join with it."""
    inside, label = region.to(batch.images.device), batch.labels[own[0]]
    given = others[generators.select(own).integers(len(others), 1).flatten()]
    taken = own[generators.select(others).integers(len(own), 1).flatten()]
    without = torch.where(inside, batch.images[given], batch.images[own])
    having = torch.where(inside, batch.images[taken], batch.images[others])
    was = model.predictions(batch.images[own]) == label
    was_not = model.predictions(batch.images[others]) != label
    left = (model.predictions(without) != label) & was
    joined = (model.predictions(having) == label) & was_not
    return float(left.sum() / was.sum().clamp(min=1)), float(joined.sum() / was_not.sum().clamp(min=1))


def _suspect(label: int, shares: Tensor, members: Tensor) -> Suspect | None:
    if len(members) < FEWEST:
        return None
    mine = shares[members]
    even = 1 / mine[0].numel()
    hot = (mine.mean(0) >= HOT * even) & ((mine >= even).double().mean(0) >= STEADY)
    if not bool(hot.any()) or float(hot.double().mean()) > LARGEST:
        return None
    return Suspect(int(label), hot.cpu(), members.cpu(), float((mine * hot).sum((1, 2)).mean()))
