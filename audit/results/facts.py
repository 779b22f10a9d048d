"""Facts of evidence that readers above several topics share: of models made in the run, and of explanations."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict

from audit.core.evidence import Facts
from audit.core.note import Note


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
    notes: tuple[Note, ...] = ()
    cut: bool = False


class ExplanationFacts(Facts):
    """What was explained, in words. A method may add facts of its own, such as the layer it looks at.

    Attributes:
        output: The output that is explained.
        baseline: What stands where pixels are missing; None where the method has no use for it.
        segments: How the image was segmented; None where it was not.
        on: Which images were explained.
        examples: Number of images.
        shared: By method, masks that it had asked the model about and that were taken over.
    """

    model_config = ConfigDict(extra="allow")

    output: str = ""
    baseline: Note | str | None = None
    segments: Note | None = None
    on: Literal["clean", "adversarial"] = "clean"
    examples: int = 0
    shared: dict[str, int] | None = None
