"""What the evidence of a model made in the run, by training or by compression, says of it."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict

from audit.core.evidence import Facts


class ModelFacts(Facts):
    """What is common to trained and compressed models; each study adds its own.

    Attributes:
        history: One row an epoch: losses, accuracies as shares, learning rate.
        mean: What is subtracted from the pixels before the net, one a channel.
        std: What they are divided by after that.
        parameters: Number of weights.
        notes: What the reader should know.
        cut: Whether channels left the net, so that its layers are smaller than its architecture says.
    """

    model_config = ConfigDict(extra="ignore")

    history: tuple[dict[str, Any], ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    parameters: int
    notes: tuple[str, ...] = ()
    cut: bool = False
