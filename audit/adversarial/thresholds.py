"""The thresholds of red flags: when a model's gradients, an attack or a battery are doubted, and what is said then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from audit.core.note import NO_NOTE, Note, note

UsedBy = Literal["model sanity", "attack controls", "battery"]


@dataclass(frozen=True)
class Threshold:
    """When a quantity raises a flag: where more than `share` of the examples have a value above `above`.

    Attributes:
        used_by: Which check asks.
        meaning: What the quantity is, and why it has this limit where another check has another.
        sentence: What the reader is told; {share}, {count} and {n} are filled in.
        above: The value of one example, in the quantity's own unit, above which it counts.
        share: The share of examples, in [0, 1], above which the flag is raised.
        fewest: Examples that must count at least.
    """

    used_by: UsedBy
    meaning: str
    sentence: Note
    above: float = 0.0
    share: float = 0.0
    fewest: int = 1


_BLIND = note("battery_blind", "{share} of the gradients of {title} are {word}: attacks that follow them see nothing.")

THRESHOLDS: Mapping[str, Threshold] = {
    "not_finite": Threshold(
        "model sanity",
        "Some logit is NaN or infinite.",
        note("sanity_finite", "The model gives NaN or infinity on {share} of the images."),
    ),
    "repeat_difference": Threshold(
        "model sanity",
        "Spread of the logits over repeated forwards; any randomness is worth telling, unlike `logit_noise`.",
        note(
            "sanity_repeat",
            "The model answers differently each time on {share} of the images: attack its expectation instead.",
        ),
        above=1e-4,
    ),
    "batch_difference": Threshold(
        "model sanity",
        "Change of the logits when the image is alone; float32 kernels differ by batch size, hence more than above.",
        note("sanity_batch", "On {share} of the images the answer depends on the other images in the batch."),
        above=1e-3,
    ),
    "ce_zero": Threshold(
        "model sanity",
        "The gradient of cross-entropy is zero; a few saturated images are usual.",
        note(
            "sanity_ce_zero",
            "The gradient of cross-entropy is zero on {share} of the images: attacks on that loss are blind.",
        ),
        share=0.05,
    ),
    "ce_nan": Threshold(
        "model sanity",
        "The gradient of cross-entropy is NaN; one is a fault of the model, so the limit is 0.",
        note("sanity_ce_nan", "The gradient of cross-entropy is NaN on {share} of the images."),
    ),
    "margin_zero": Threshold(
        "model sanity",
        "The gradient of the margin is zero.",
        note(
            "sanity_margin_zero",
            "The gradient of the margin is zero on {share} of the images: white-box attacks are blind there.",
        ),
        share=0.05,
    ),
    "margin_nan": Threshold(
        "model sanity",
        "The gradient of the margin is NaN; the limit is 0 as for cross-entropy.",
        note("sanity_margin_nan", "The gradient of the margin is NaN on {share} of the images."),
    ),
    "linear_distance": Threshold(
        "model sanity",
        "Distance of the linearised boundary in linf; the box is 1 wide.",
        note(
            "sanity_linear",
            "On {share} of the images the gradient is so small that it puts the boundary outside the box.",
        ),
        above=1.0,
        share=0.1,
    ),
    "derivative_error": Threshold(
        "model sanity",
        "Autograd against finite differences, 0 where they agree and 1 where unrelated.",
        note(
            "sanity_derivative",
            "On {share} of the images autograd's gradient is not the slope that finite differences find.",
        ),
        above=0.5,
        share=0.1,
    ),
    "face_error": Threshold(
        "model sanity",
        "As `derivative_error`, at black and white pixels, by one-sided differences into the box.",
        note(
            "sanity_faces",
            "On {share} of the images the gradient at black and white pixels is not the slope that a change meets.",
        ),
        above=0.5,
        share=0.1,
    ),
    "noise_shift": Threshold(
        "model sanity",
        "Shift of the margin under noise of 1e-4, as a share of a typical margin.",
        note("sanity_noise", "Noise too small to record moves the margin on {share} of the images."),
        above=0.2,
        share=0.05,
    ),
    "plateau": Threshold(
        "model sanity",
        "Noise of 1e-4 changes no logit at all.",
        note(
            "sanity_plateau",
            "On {share} of the images tiny changes move nothing at all: the input is rounded on its way in.",
        ),
        share=0.05,
    ),
    "noise_only": Threshold(
        "attack controls",
        "Random noise breaks an image that PGD does not.",
        note(
            "controls_noise",
            "Random noise broke {count} of {n} images that PGD left unbroken: the gradient attack fails.",
        ),
        share=0.01,
        fewest=2,
    ),
    "fgsm_only": Threshold(
        "attack controls",
        "One step breaks an image that forty steps do not.",
        note(
            "controls_fgsm", "One step broke {count} of {n} images that forty steps left unbroken: the steps mislead."
        ),
        share=0.01,
        fewest=2,
    ),
    "shrinking": Threshold(
        "attack controls",
        "PGD breaks an image at an eps and not at a larger one.",
        note(
            "controls_shrinking",
            "PGD broke {count} of {n} images at an eps and not at a larger one: success must grow with eps.",
        ),
        share=0.01,
        fewest=2,
    ),
    "doubled": Threshold(
        "attack controls",
        "Twice the effort breaks an image that the battery does not.",
        note(
            "controls_doubled", "Twice the effort broke {count} of {n} images more: the battery has not run to its end."
        ),
        share=0.005,
        fewest=2,
    ),
    "unbroken_in_box": Threshold(
        "attack controls",
        "PGD that may turn any image into any other leaves an image unbroken; up to 5% may be bad luck of a start.",
        note(
            "controls_box",
            "PGD free to paint any image leaves {share} unbroken: the attack fails, not the model resists.",
        ),
        share=0.05,
        fewest=2,
    ),
    "logit_noise": Threshold(
        "battery",
        "Change of a logit on a second forward over the logits' spread from which a model is attacked by its mean; "
        "above the 1e-4 of `repeat_difference`, for the mean costs 20 forwards and less noise turns no verdict.",
        NO_NOTE,
        above=1e-3,
    ),
    "turned_verdicts": Threshold(
        "battery",
        "Verdicts on a random model, by the mean of its forwards, that turn when it is asked again.",
        note(
            "battery_random",
            "The model gives different logits for the same image (by {wobble} of their spread), and even the mean of "
            "{draws} forwards decides otherwise when asked again on {share} of the images.",
        ),
        share=0.01,
    ),
    "battery_ce_zero": Threshold("battery", "As `ce_zero`, on the battery's own images.", _BLIND, share=0.05),
    "battery_ce_nan": Threshold(
        "battery",
        "As `ce_nan`; the battery has attacks that need no gradient, so it bears 5% where model sanity bears none.",
        _BLIND,
        share=0.05,
    ),
    "battery_margin_zero": Threshold("battery", "As `margin_zero`, on the battery's own images.", _BLIND, share=0.05),
    "battery_margin_nan": Threshold("battery", "As `margin_nan`; 5% as for `battery_ce_nan`.", _BLIND, share=0.05),
    "unbroken_in_grey_box": Threshold(
        "battery",
        "PGD that may paint any image grey leaves more than grey images would; that share depends on the class that "
        "the model says of grey, so the limit comes with the measurement (`unbroken_in_box` reaches further and bears "
        "5%).",
        note(
            "battery_beyond_grey",
            "PGD allowed to paint any image grey leaves {share} unbroken, where grey images would leave at most "
            "{chance}: the attack is failing, not the model resisting.",
        ),
    ),
    "flat_faces": Threshold(
        "battery",
        "Depth, as a share of the pixel range, to which the model does not see changes of black or white pixels, in a "
        "norm whose attacks do not look over it.",
        note(
            "battery_flat_faces",
            "The model does not see changes of black or white pixels below {share} of the range: attacks in {norm} do "
            "not look over that, so its robust accuracy may be lower.",
        ),
    ),
    "gradient_free_breaks": Threshold(
        "battery",
        "Points of accuracy, as a share, that an attack without gradients takes from what gradient attacks left.",
        note(
            "battery_beaten",
            "{attack}, which sees no gradient, broke {broke} of {tried} images that the gradient attacks had left "
            "(about {points} points of accuracy): the gradients mislead.",
        ),
        share=0.002,
        fewest=2,
    ),
    "no_iterative_gradient_attack": Threshold(
        "battery",
        "No attack of the battery follows gradients over several steps: only a custom battery can be so weak.",
        note(
            "battery_not_iterative",
            "No attack of the battery follows gradients over several steps, so what it leaves unbroken says little: "
            "add apgd-ce or apgd-t.",
        ),
    ),
    "no_attack_ran": Threshold(
        "battery",
        "No attack of the battery could run, so its robust accuracy is the clean one.",
        note("battery_none_ran", "No attack of the battery ran, so nothing was put to the test: {reason}"),
    ),
}
"""Every threshold, by quantity. An example whose value is NaN counts as above."""


def rows_of(used_by: UsedBy) -> tuple[str, ...]:
    """The quantities that one check looks at, in the order of `THRESHOLDS`.

    Args:
        used_by: The check.
    """
    return tuple(name for name, row in THRESHOLDS.items() if row.used_by == used_by)
