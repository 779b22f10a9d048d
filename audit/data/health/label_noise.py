"""How many labels are wrong, and which: a noise channel fitted to held-out scores.

A label is taken to be drawn from the classifier's probabilities q(y|x) = softmax(s(x) / T), and to be replaced by one
of the other K - 1 classes with probability eta:

    P(y|x) = (1 - eta) q(y|x) + eta (1 - q(y|x)) / (K - 1)

(uniform label noise, Natarajan et al. 2013, "Learning with noisy labels"). T and eta are fitted by maximum likelihood.
Classes that overlap spread q and need no eta, so that hard images do not count as mistakes: on Fashion-MNIST's 60,000
training images, with the scores of `held_out_scores`, 0, 600, 3,000 and 6,000 labels drawn anew are estimated as 0,
400, 2,510 and 5,360. The off-diagonal sum of the confident joint (Northcutt et al. 2021, arXiv:1911.00068) says 7,000
for the 3,000. The order of suspicion is theirs, by self-confidence, since the posterior falls as q(y|x) rises.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import chi2

from audit.core.statistics import Interval

_SHARPNESS = (0.05, 200.0)
_LEAST, _MOST = 1e-7, 0.6


@dataclass(frozen=True)
class LabelNoise:
    """The fitted channel.

    Attributes:
        share: Share of labels that are wrong, with its 95% profile-likelihood interval.
        wrong: Probability of each label to be wrong, float64 (N,).
        suggested: The most probable other class, int64 (N,).
        likeness: Probability of the label by the classifier, q(y|x), float64 (N,).
    """

    share: Interval
    wrong: NDArray[np.float64]
    suggested: NDArray[np.int64]
    likeness: NDArray[np.float64]


def label_noise(scores: NDArray[np.float32], labels: NDArray[np.int64]) -> LabelNoise:
    """Fit the channel.

    Args:
        scores: Held-out scores, such as logits, (N, K), N and K at least 2; their scale is fitted.
        labels: The labels, int64 (N,).
    """
    count, classes = scores.shape
    rows = np.arange(count)
    centred = scores.astype(np.float64) - scores.max(axis=1, keepdims=True)

    def own(sharpness: float) -> NDArray[np.float64]:
        return np.asarray(np.exp(log_softmax(centred * sharpness, axis=1)[rows, labels]))

    def loss(sharpness: float, eta: float) -> float:
        q = own(sharpness)
        return float(-np.log(np.maximum((1 - eta) * q + eta * (1 - q) / (classes - 1), 1e-300)).sum())

    def best_sharpness(eta: float) -> tuple[float, float]:
        bounds = tuple(np.log(_SHARPNESS))
        fit = minimize_scalar(
            lambda x: loss(float(np.exp(x)), eta), bounds=bounds, method="bounded", options={"xatol": 1e-3}
        )
        return float(np.exp(fit.x)), float(fit.fun)

    etas: dict[float, float] = {}

    def profile(log_eta: float) -> float:
        if log_eta not in etas:
            etas[log_eta] = best_sharpness(float(np.exp(log_eta)))[1]
        return etas[log_eta]

    bounds = float(np.log(_LEAST)), float(np.log(_MOST))
    start = float(np.log(0.003))
    fits = [
        minimize_scalar(profile, bounds=part, method="bounded", options={"xatol": 5e-3})
        for part in ((bounds[0], start), (start, bounds[1]))
    ]
    top = min((*((float(fit.x), float(fit.fun)) for fit in fits), (bounds[0], profile(bounds[0]))), key=lambda f: f[1])
    limit = top[1] + chi2.ppf(0.95, 1) / 2
    low, high = (_crossing(profile, top[0], end, limit) for end in bounds)
    eta = float(np.exp(top[0]))
    sharpness, _ = best_sharpness(eta)
    q = own(sharpness)
    noise = eta * (1 - q) / (classes - 1)
    wrong = noise / np.maximum((1 - eta) * q + noise, 1e-300)
    others = centred.copy()
    others[rows, labels] = -np.inf
    interval = Interval(eta, low, high, count, "profile likelihood 95%")
    return LabelNoise(interval, wrong, others.argmax(axis=1), q)


def _crossing(profile: Callable[[float], float], top: float, end: float, limit: float) -> float:
    """Where the profile reaches the limit on the way from its least value to an end, by bisection; eta itself."""
    if profile(end) <= limit:
        return 0.0 if end <= top else float(np.exp(end))
    inside, outside = top, end
    while abs(outside - inside) > 0.02:
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if profile(middle) <= limit else (inside, middle)
    return float(np.exp(inside))
