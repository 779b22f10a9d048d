"""What the training study measures besides the weights."""

from __future__ import annotations

from pydantic import ConfigDict

from audit.results.facts import ModelFacts


class TrainingFacts(ModelFacts):
    """A model trained here.

    Attributes:
        kept_epoch: The epoch whose weights were kept, from 1.
        stopped: Why it ended before its last epoch; empty where it did not.
    """

    model_config = ConfigDict(extra="forbid")

    kept_epoch: int
    stopped: str = ""
