"""Identities and sizes of the data and the model: all that planning needs of them; and the eps that follow."""

from __future__ import annotations

import math
from dataclasses import dataclass

from audit.config import RunConfig
from audit.core.threat_format import usual_eps


@dataclass(frozen=True)
class RunIdentity:
    """Identities and sizes of the data and the model of a run.

    Attributes:
        classes: Names of the classes, in the model's order.
        shape: Channels, height and width of an image.
        test: Fingerprint of the test split.
        test_examples: Number of test images.
        architecture: Name of the model's architecture.
        train: Fingerprint of the training split; empty without one.
        train_examples: Number of training images.
        loaded: Identity of the model that was loaded; None where one is trained.
        pretrained: SHA-256 of the weights that training starts from, with the entry asked for; empty for new ones.
        masked: Whether the test images have object masks.
        task: What the model does: "classification" or "detection".
        labelled: Whether the labels are true ones; False where they are the loaded model's predictions.
        concepts: By name of a concept of the user's, the SHA-256 of its images.
        cohorts: Fingerprint of what the data says of the test images beside their labels; empty where that is nothing.
        foreign: Fingerprint of the images that the user names as foreign to the model; empty without any.
    """

    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    test: str
    test_examples: int
    architecture: str
    train: str = ""
    train_examples: int = 0
    loaded: str | None = None
    pretrained: str = ""
    masked: bool = False
    labelled: bool = True
    concepts: tuple[tuple[str, str], ...] = ()
    cohorts: str = ""
    foreign: str = ""
    task: str = "classification"


def headline_eps(config: RunConfig, identity: RunIdentity) -> float:
    """The eps of the verdict: that of the configuration, or the usual one for the norm and the images.

    Args:
        config: The configuration of the run.
        identity: Gives the shape of the images.

    Returns:
        In units of the pixel range [0, 1].
    """
    return config.robustness.eps or usual_eps(config.robustness.norm, identity.shape)


def curve_eps(config: RunConfig, identity: RunIdentity) -> tuple[float, ...]:
    """The eps of the curve, ascending, with that of the verdict among them.

    Args:
        config: The configuration of the run.
        identity: Gives the number of channels.

    Returns:
        In units of the pixel range [0, 1].
    """
    headline = headline_eps(config, identity)
    most = 1 if config.robustness.norm == "linf" else math.inf
    spread = tuple(headline * factor for factor in (0.125, 0.25, 0.5, 2.0) if headline * factor <= most)
    if config.robustness.norm == "l0":  # a number of values
        spread = tuple(float(max(1, round(eps))) for eps in spread)
    return tuple(sorted({*(config.robustness.curve or spread), headline}))
