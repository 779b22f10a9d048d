"""Whether the model is right often enough on unchanged images."""

from __future__ import annotations

from audit.config import RunConfig, load_config
from audit.core.registry import check
from audit.core.statistics import share_of
from audit.results.check_result import CheckResult, at_least, template_values
from audit.results.queries import cell_keys, clean_correct
from audit.results.run_results import RunResults


@check(
    section="accuracy",
    title_pass="The {role} model classifies {estimate:.1%} of clean images right",
    title_fail="The {role} model classifies only {estimate:.1%} of clean images right",
    title_inconclusive="{n} images are too few to say whether the {role} model reaches {threshold:.0%} clean accuracy",
    explanation="Measured on {n} test images as they are. Every other number in this report is read against this one.",
    criterion="The lower bound of the 95% interval must be at least {threshold:.0%}.",
    advice="Train longer, on more images, or with a larger architecture, then look at the classes that are confused.",
    command_fail="audit run --preset standard{longer}",
    advice_inconclusive="Give more test images: all that there are were measured.",
)
def clean_accuracy(results: RunResults, role: str, config: RunConfig) -> CheckResult | None:
    """The share of clean images classified right, against `clean_accuracy`.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run; its criteria hold the thresholds.
    """
    correct = clean_correct(results, role).values
    if not correct.size or not results.labelled:
        return None
    share = share_of(correct)
    return CheckResult(
        at_least(share, config.criteria.clean_accuracy),
        share,
        cell_keys(results.entries("accuracy", role=role)),
        template_values(share, threshold=config.criteria.clean_accuracy, longer=_longer(config)),
    )


def _longer(config: RunConfig) -> str:
    """The flag for more epochs than were trained, where the preset that is advised does not bring them by itself."""
    if config.model.loads:
        return ""
    usual, advised = (load_config(preset=preset).training.epochs for preset in (config.preset, "standard"))
    trained = config.training.epochs
    return "" if trained == usual < advised else f" --set training.epochs={max(2 * trained, advised)}"
