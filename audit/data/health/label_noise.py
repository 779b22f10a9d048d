"""How many labels are wrong, and which: a noise channel fitted to held-out scores.

A label is taken to be drawn from the classifier's probabilities q(y|x) = softmax(s(x) / T), and to be replaced by one
of the other K - 1 classes with probability eta:

    P(y|x) = (1 - eta) q(y|x) + eta (1 - q(y|x)) / (K - 1)

(uniform label noise, Natarajan et al. 2013, "Learning with noisy labels"). T and eta are fitted by maximum likelihood.
Classes that overlap spread q and need no eta, so that hard images do not count as mistakes: on Fashion-MNIST's 60,000
training images, with the scores of `held_out_scores`, 0, 600, 3,000 and 6,000 labels drawn anew are estimated as 0,
400, 2,510 and 5,360. The off-diagonal sum of the confident joint (Northcutt et al. 2021, arXiv:1911.00068) is 6,974 in
cleanlab 2.9 for the 3,000. The order of suspicion is theirs, by self-confidence: the posterior falls as q(y|x) rises.

The channel supposes a classifier that is right more often than not: one that is surely wrong cannot be told from wrong
labels. On 1,000 garments with none to 40% of their labels drawn anew, the intervals of four classifiers held the truth
wherever they agreed with half of the labels or more. Below, on images turned, moved or inverted, right labels were
convicted (an agreement of 19%: 47% to 60% wrong, where the search ends) and wrong ones acquitted (32%: at most 2.2%
wrong, of 5%). So `can_tell` asks for half.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import ndtri

from audit.core.statistics import Interval

_SHARPNESS = (0.05, 200.0)
_LEAST, _MOST = 1e-7, 0.6
_LEAST_AGREEMENT = 0.5
_MOST_SCORES = 20_000_000
_AT_ONCE = 4096


@dataclass(frozen=True)
class LabelNoise:
    """The fitted channel.

    Attributes:
        share: Share of labels that are wrong, with its 95% profile-likelihood interval.
        wrong: Probability of each label to be wrong, float64 (N,).
        suggested: The most probable other class, int64 (N,).
        agreement: Share of the labels that are the class of the largest score, in [0, 1].
    """

    share: Interval
    wrong: NDArray[np.float64]
    suggested: NDArray[np.int64]
    agreement: float


def can_tell(agreement: float | None, high: float) -> bool:
    """Whether scores are right often enough for what they contradict to be laid to the labels.

    Args:
        agreement: Share of the labels that are the class of the largest score, in [0, 1]; None where it is not known.
        high: Upper bound of the share of wrong labels, in [0, 1]: at 0.6 the search ended, not the likelihood.
    """
    return high < 0.999 * _MOST and (agreement is None or agreement >= _LEAST_AGREEMENT)


def label_noise(scores: NDArray[np.float32], labels: NDArray[np.int64]) -> LabelNoise:
    """Fit the channel; on evenly spaced rows where there are more than 20 million scores.

    Args:
        scores: Held-out scores, such as logits, (N, K), N and K at least 2; their scale is fitted.
        labels: The labels, int64 (N,).
    """
    step = -(-scores.size // _MOST_SCORES)
    channel = _Channel(scores[::step], labels[::step])
    bounds = float(np.log(_LEAST)), float(np.log(_MOST))
    start = float(np.log(0.003))
    fits = [
        minimize_scalar(channel.profile, bounds=part, method="bounded", options={"xatol": 5e-3})
        for part in ((bounds[0], start), (start, bounds[1]))
    ]
    candidates = [*((float(fit.x), float(fit.fun)) for fit in fits), (bounds[0], channel.profile(bounds[0]))]
    top = min(candidates, key=lambda candidate: candidate[1])
    limit = top[1] + float(ndtri(0.975)) ** 2 / 2  # half of the 95% quantile of chi-squared
    low, high = (_crossing(channel.profile, top[0], end, limit) for end in bounds)
    eta, sharpness = float(np.exp(top[0])), channel.sharpness[top[0]]
    wrong, suggested = np.zeros(len(labels)), np.zeros(len(labels), np.int64)
    for begin in range(0, len(labels), _AT_ONCE):
        rows = slice(begin, begin + _AT_ONCE)
        q = _own(_centred(scores[rows]), labels[rows], sharpness)
        noise = eta * (1 - q) / (scores.shape[1] - 1)
        wrong[rows] = noise / np.maximum((1 - eta) * q + noise, 1e-300)
        others = scores[rows].astype(np.float64)
        others[np.arange(len(q)), labels[rows]] = -np.inf
        suggested[rows] = others.argmax(axis=1)
    interval = Interval(eta, low, high, len(channel.labels), "profile likelihood 95%")
    agreement = float((scores.argmax(axis=1) == labels).mean())
    return LabelNoise(interval, wrong, suggested, agreement)


class _Channel:
    """The likelihood of eta, with T fitted to each."""

    def __init__(self, scores: NDArray[np.float32], labels: NDArray[np.int64]):
        self.centred, self.labels = scores - scores.max(axis=1, keepdims=True), labels
        self.losses: dict[float, float] = {}
        self.sharpness: dict[float, float] = {}

    def profile(self, log_eta: float) -> float:
        """The negative log-likelihood of an eta at its best T."""
        key = float(log_eta)
        if key not in self.losses:
            eta, bounds = float(np.exp(key)), tuple(np.log(_SHARPNESS))
            fit = minimize_scalar(
                lambda x: self._loss(float(np.exp(x)), eta), bounds=bounds, method="bounded", options={"xatol": 1e-3}
            )
            self.losses[key], self.sharpness[key] = float(fit.fun), float(np.exp(fit.x))
        return self.losses[key]

    def _loss(self, sharpness: float, eta: float) -> float:
        total = 0.0
        for start in range(0, len(self.labels), _AT_ONCE):
            rows = slice(start, start + _AT_ONCE)
            q = _own(self.centred[rows].astype(np.float64), self.labels[rows], sharpness)
            likelihood = (1 - eta) * q + eta * (1 - q) / (self.centred.shape[1] - 1)
            total -= float(np.log(np.maximum(likelihood, 1e-300)).sum())
        return total


def _centred(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(scores - scores.max(axis=1, keepdims=True), np.float64)


def _own(centred: NDArray[np.float64], labels: NDArray[np.int64], sharpness: float) -> NDArray[np.float64]:
    """q(y|x) of each label."""
    chosen = np.exp(centred[np.arange(len(labels)), labels] * sharpness)
    share: NDArray[np.float64] = chosen / np.exp(centred * sharpness).sum(axis=1)
    return share


def _crossing(profile: Callable[[float], float], top: float, end: float, limit: float) -> float:
    """Where the profile reaches the limit on the way from its least value to an end, by bisection; eta itself."""
    if profile(end) <= limit:
        return 0.0 if end <= top else float(np.exp(end))
    inside, outside = top, end
    while abs(outside - inside) > 0.02:
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if profile(middle) <= limit else (inside, middle)
    return float(np.exp(inside))
