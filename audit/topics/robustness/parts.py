"""The cells of a step whose images are cut into chunks: parts that join to the answer of one cell."""

from __future__ import annotations

from collections.abc import Mapping

from audit.adversarial.batteries import battery_of_cell
from audit.adversarial.battery_schedule import battery_schedule, stretches
from audit.adversarial.sanity import IMAGES_EXAMINED
from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.parts import part_input
from audit.planning.plan import Slice, Task
from audit.topics.robustness.facts import (
    CHOICE,
    EXAMINATION,
    STRETCH,
    ChoiceSettings,
    RobustnessSettings,
    StretchSettings,
    part_name,
)


def chunks_of(step: Slice, size: int) -> tuple[Slice, ...]:
    """The images of a step cut into chunks.

    Args:
        step: The step.
        size: Most images in a chunk.
    """
    starts = range(step.start, step.stop, size)
    return tuple(Slice(step.split, start, min(start + size, step.stop)) for start in starts)


def plan_parts(
    builder: PlanBuilder,
    model: ModelRef,
    step: Slice,
    method: str,
    settings: RobustnessSettings,
    surrogate: Mapping[str, Task],
) -> dict[str, Task]:
    """Examine the model once, then run each stretch of the battery on each chunk, and choose among all between two.

    Args:
        builder: The plan so far.
        model: The model.
        step: The images.
        method: Name of the battery.
        settings: Those of the cell that joins the parts.
        surrogate: Its input of that name, where there is one.

    Returns:
        By name, the inputs of the cell that joins them.
    """
    battery = battery_of_cell(method, settings.protocol)
    asked = {name: value for name, value in settings.dump().items() if name in ("eps", "headline", "protocol")}
    few = Slice(step.split, step.start, min(step.stop, step.start + IMAGES_EXAMINED))
    checks = {"sanity_checks": settings.sanity_checks}
    examined = builder.add(EXAMINATION, "sanity-checks", model, few, settings=checks, threat=builder.threat)
    chunks = chunks_of(step, settings.chunk)
    parts: dict[str, Task] = {"examination": examined, **surrogate}
    before: dict[str, Task] = {}
    cuts = stretches(battery_schedule(battery, sorted(settings.eps), settings.headline or 0.0))
    for number, runs in enumerate(cuts):
        inputs = {"examination": examined, **surrogate}
        if number:
            choosing = ChoiceSettings(**asked, run=runs[0])
            inputs["choice"] = builder.add(
                CHOICE, method, model, step, settings=choosing.dump(), threat=builder.threat, inputs=before
            )
        latest = {}
        for chunk in chunks:
            name = part_input(chunk.start)
            latest[name] = parts[part_name(chunk.start, number)] = builder.add(
                STRETCH,
                method,
                model,
                chunk,
                settings=StretchSettings(**asked, runs=runs).dump(),
                threat=builder.threat,
                inputs=inputs | ({"before": before[name]} if number else {}),
            )
        before = latest
    return parts
