"""The registry of methods: a decorated function is registered under its name.

The keyword-only parameters of a method are its settings: they are validated from the configuration and hashed into the
cell. Other distributions register methods through the entry points `audit.methods`, whose values name modules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

from audit.core.evidence import Better
from audit.core.method import KINDS as KINDS
from audit.core.method import Kind as Kind
from audit.core.method import Method as Method
from audit.core.method import PassBound as PassBound
from audit.core.method_table import find as find
from audit.core.method_table import methods as methods
from audit.core.method_table import register
from audit.core.pass_count import PassCount

F = TypeVar("F", bound=Callable[..., Any])


def attack(
    *,
    reference: str,
    needs: Literal["gradients", "scores", "decisions", "nothing"],
    norms: tuple[str, ...] = ("linf", "l2"),
    minimal: bool = False,
    control: bool = False,
    passes: PassBound | None = None,
    effort: tuple[str, ...] | None = None,
    early_stops: tuple[str, ...] = (),
    version: str = "1",
    wraps: str = "",
    **facts: Any,
) -> Callable[[F], F]:
    """Register `(model, batch, threat, generators, *, settings) -> Images`.

    Args:
        reference: The paper, as arXiv:NUMBER.
        needs: What it asks of the model.
        norms: The norms whose balls can bind it; none for a threat of its own.
        minimal: Whether it seeks the smallest perturbation, and so is run once for all eps.
        control: Whether it is a control, such as noise, that other attacks must beat: the tests do not ask it to find
            the distance of a linear boundary.
        passes: `(settings, shape) -> PassCount`, the most that one image of `shape` (C, H, W) costs. Without it the
            cost of a run with this attack is not known before.
        effort: Settings that are doubled to see whether more effort breaks more. Without it that is not asked.
        early_stops: Settings that end an example early when true, and are false under twice the effort.
        version: Raised when its answers change.
        wraps: The distribution that does the work, whose version joins the cell.
        facts: Anything else to know of it.
    """
    declared = {"needs": needs, "norms": norms, "minimal": minimal, "control": control, "passes": passes}
    return register(
        "attack", reference, version, wraps, {**declared, "effort": effort, "early_stops": early_stops, **facts}
    )


def detection_attack(
    *,
    reference: str,
    needs: Literal["gradients", "nothing"],
    norms: tuple[str, ...] = ("linf", "l2"),
    control: bool = False,
    passes: PassBound | None = None,
    version: str = "1",
    **facts: Any,
) -> Callable[[F], F]:
    """Register `(detector, batch, threat, generators, *, settings) -> Images`, an attack on object detectors.

    Args:
        reference: The paper, as arXiv:NUMBER.
        needs: What it asks of the detector.
        norms: The norms whose balls can bind it.
        control: Whether it is a control, such as noise, that other attacks must beat.
        passes: `(settings, shape) -> PassCount`, the most that one image of `shape` (C, H, W) costs.
        version: Raised when its answers change.
        facts: Anything else to know of it.
    """
    facts = {"needs": needs, "norms": norms, "control": control, "passes": passes, **facts}
    return register("detection-attack", reference, version, "", facts)


def attribution(
    *,
    reference: str,
    needs: Literal["gradients", "spatial layer", "scores"],
    signed: bool,
    segment_based: bool = False,
    references: bool = False,
    passes: PassBound | None = None,
    quality_units: Mapping[str, tuple[str, Better]] | None = None,
    version: str = "1",
    wraps: str = "",
    **facts: Any,
) -> Callable[[F], F]:
    """Register `(model, images, spec, *, settings) -> Attribution` (see `audit.explanation.spec`).

    Args:
        reference: The source, as arXiv:NUMBER or doi:NUMBER.
        needs: What the method asks of the model: its gradient, a convolution with a spatial map, or outputs alone.
        signed: Whether attributions may be negative.
        segment_based: Whether the method always switches segments on and off, never single pixels.
        references: Whether the method averages over background images.
        passes: `(settings, shape) -> PassCount`, the most that one image of `shape` (C, H, W) may cost; `settings` are
            the method's with `references`, the number of background images (0 for none). None where it is unknown.
        quality_units: Unit and better direction of each entry of `Attribution.quality`.
        version: Raised when the method's answers change.
        wraps: The distribution that does the work.
        facts: Further facts: `baseline`, the default reference input; `unit`, "output" where it is left out, of maps to
            hold against the outputs' rounding; `reuses_masks`, `(settings) -> bool`, whether a method by segment may
            take another's masks (it may where this is left out); `expected`, as `passes`, what an image usually costs.

    Returns:
        The decorator.
    """
    facts = {
        "needs": needs,
        "signed": signed,
        "segment_based": segment_based,
        "references": references,
        "passes": passes,
        "quality_units": quality_units or {},
        **facts,
    }
    return register("attribution", reference, version, wraps, facts)


def detection_attribution(
    *,
    reference: str,
    needs: Literal["gradients", "decisions"],
    passes: Callable[[Mapping[str, Any], tuple[int, ...], int], PassCount],
    version: str = "1",
    **facts: Any,
) -> Callable[[F], F]:
    """Register `(detector, images, targets, generators, *, settings) -> list[Tensor]`, maps of boxes that were found.

    Args:
        reference: The paper, as arXiv:NUMBER.
        needs: What it asks of the detector: gradients, or what it finds alone.
        passes: `(settings, shape, boxes) -> PassCount`, what an image of `shape` (C, H, W) with so many explained boxes
            costs at most.
        version: Raised when its answers change.
        facts: Anything else to know of it.
    """
    return register("detection-attribution", reference, version, "", {"needs": needs, "passes": passes, **facts})


def corruption(*, reference: str, group: str, version: str = "1", **facts: Any) -> Callable[[F], F]:
    """Register `(images, severity, generators) -> Images`, with severity 1 to 5.

    Args:
        reference: The source, as arXiv:NUMBER or doi:NUMBER.
        group: The family it belongs to: "noise", "blur", "weather" or "digital".
        version: Raised when its answers change.
        facts: Further facts about it.

    Returns:
        The decorator, which returns the function as it is.
    """
    return register("corruption", reference, version, "", {"group": group, **facts})


def metric(*, reference: str, unit: str, better: str, version: str = "1", wraps: str = "") -> Callable[[F], F]:
    """Register a metric, whose signature depends on what it measures.

    Args:
        reference: The source, as arXiv:NUMBER or doi:NUMBER.
        unit: The unit of its values, such as "share".
        better: Which direction is good: "higher", "lower" or "neither".
        version: Raised when its answers change.
        wraps: The distribution that does the work.

    Returns:
        The decorator, which returns the function as it is.
    """
    return register("metric", reference, version, wraps, {"unit": unit, "better": better})


def recipe(*, reference: str, adversarial: bool, version: str = "1", **facts: Any) -> Callable[[F], F]:
    """Register `(net, step, *, settings) -> Iterator[Objective]` (see `audit.training.step`).

    Args:
        reference: The source, as arXiv:NUMBER or doi:NUMBER.
        adversarial: Whether it trains within a threat model.
        version: Raised when its answers change.
        facts: Further: `teacher`, whether it has one; `task`, "detection" of detectors; `passes` and `expected`.

    Returns:
        The decorator, which returns the function as it is.
    """
    return register("recipe", reference, version, "", {"adversarial": adversarial, **facts})


def study(*, version: str = "1") -> Callable[[F], F]:
    """Register `(context, cell) -> Evidence`.

    Args:
        version: Raised when its answers change.

    Returns:
        The decorator, which returns the function as it is.
    """
    return register("study", "", version, "", {})


def check(
    *, title_pass: str, title_fail: str, section: str, reference: str = "", version: str = "1", **facts: Any
) -> Callable[[F], F]:
    """Register `(results, role, config) -> CheckResult`, several of them, or None where there is no evidence.

    The titles, and the facts `explanation`, `criterion`, `advice` and `command`, are templates that
    `CheckResult.values` fill in. A template with a verdict behind its name, such as `advice_inconclusive`, is used for
    that verdict (see `audit.results.run_checks`).

    Args:
        title_pass: Title of a finding that passes.
        title_fail: Title of a finding that does not.
        section: Section of the report where its findings are.
        reference: The source, as arXiv:NUMBER or doi:NUMBER; empty without one.
        version: Raised when its answers change.
        facts: The other templates; `priority`, an int that orders findings of equal severity, lower first.

    Returns:
        The decorator, which returns the function as it is.
    """
    facts = {"title_pass": title_pass, "title_fail": title_fail, "section": section, **facts}
    return register("check", reference, version, "", facts)


def data_format(
    *, argument: str = "", images: bool = False, reference: str = "", version: str = "1", **facts: bool
) -> Callable[[F], F]:
    """Register `(argument, options, *, settings) -> Dataset`, a source of data written NAME or NAME:ARGUMENT.

    A function with settings is written NAME:KEY=VALUE,... and gets an empty argument. Libraries that are slow to
    import or not always installed are imported inside the function.

    Args:
        argument: What must follow the colon, as a user reads it: "DIR", "FILE". Empty for nothing.
        images: Whether the format decodes image files: it then crops each where it is decoded
            (`audit.data.dataset.LoadOptions.crop`), and the loaded data set is not cropped again.
        reference: Where the data or the format is described.
        version: Raised when the same source gives other images.
        facts: Further facts: `columns`, whether its columns may be chosen (`audit.data.dataset.Columns`); `boxes`,
            whether images have objects, whose boxes it resizes with them.

    Returns:
        The decorator, which returns the function as it is.
    """
    all_facts = {"argument": argument, "images": images, "columns": False, "boxes": False, **facts}
    return register("data-format", reference, version, "", all_facts)


def model_format(*, suffixes: tuple[str, ...], reference: str = "", version: str = "1") -> Callable[[F], F]:
    """Register `(path, trust) -> CheckpointContent`, which reads the model files of some suffixes.

    Args:
        suffixes: The file name suffixes in lower case with their dot: (".pt", ".pth").
        reference: Where the format is described.
        version: Raised when the same file gives other weights.

    Returns:
        The decorator, which returns the function as it is.
    """
    return register("model-format", reference, version, "", {"suffixes": suffixes})
