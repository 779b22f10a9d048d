"""What the explanation study measures besides the maps."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict

from audit.core.evidence import Facts


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
    baseline: str | None = None
    segments: str | None = None
    on: Literal["clean", "adversarial"] = "clean"
    examples: int = 0
    shared: dict[str, int] | None = None
