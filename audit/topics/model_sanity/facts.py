"""What the study of the model's sanity measures, and the red flags that the sanity checks of attacks share with it."""

from __future__ import annotations

from pydantic import ConfigDict

from audit.adversarial.red_flags import RedFlag
from audit.core.evidence import Facts
from audit.core.note import NO_NOTE, Note


class SuspicionFacts(Facts):
    """Red flags that a study raises; each study adds its own facts.

    Attributes:
        suspicions: Reasons to doubt attacks on the model; empty where there are none. None where the check holds the
            shares of all cells together against their thresholds.
    """

    model_config = ConfigDict(extra="ignore")

    suspicions: tuple[RedFlag, ...] | None = None


class ModelSanityFacts(SuspicionFacts):
    """What was seen of a model as a whole.

    Attributes:
        output_kind: What it gives, such as "logits" or "probabilities".
        missing_gradient: Why there is no gradient; empty where there is one.
        needs_autograd: Whether the forward pass takes gradients itself.
        in_training: Modules that stay in training mode.
        changed_state: Parameters and buffers that a forward pass changes.
        pixels: The lowest and the highest pixel value.
        suspicions: Reasons to doubt attacks on the model: there is one cell of a model.
    """

    model_config = ConfigDict(extra="forbid")

    output_kind: str = ""
    missing_gradient: Note = NO_NOTE
    needs_autograd: bool = False
    in_training: tuple[str, ...] = ()
    changed_state: tuple[str, ...] = ()
    pixels: tuple[float, ...] = ()
    suspicions: tuple[RedFlag, ...] = ()
