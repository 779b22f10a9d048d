"""Planning a cell that asks about each image by itself: on more images than a cell may hold, in parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.parts import part_input, part_study
from audit.planning.plan import Slice, Task


def add_by_image(
    builder: PlanBuilder,
    study: str,
    method: str,
    model: ModelRef,
    examples: Slice,
    *,
    inputs: Mapping[str, Task] | None = None,
    settings: Mapping[str, Any] | None = None,
    **further: Any,
) -> Task:
    """Plan a cell, and before it its parts where the configuration wants fewer images in one.

    A part reads the parts on its images of those inputs that have any, and the other inputs as they are.

    Args:
        builder: The plan so far.
        study: Name of the study, whose parts are of `part_study`.
        method: Name of the method.
        model: The model it runs on.
        examples: The images it runs on, the first of the audit order.
        inputs: By name, the tasks whose evidence it reads.
        settings: Settings, as JSON values.
        **further: What else `PlanBuilder.add` takes.

    Returns:
        The task of the cell itself.
    """
    inputs, settings, parts = dict(inputs or {}), dict(settings or {}), dict[str, Task]()
    if len(examples) > builder.config.chunk:
        too_few = settings.get("references", 0) > len(examples)  # for a background, which is then none
        asked = settings | ({"references": 0} if too_few else {})
        planned = {task.cell.key: task for task in builder.tasks}
        for some in builder.chunks(len(examples)):
            name = part_input(some.start)
            read = {of: planned.get(task.cell.inputs.get(name, ""), task) for of, task in inputs.items()}
            parts[name] = builder.add(part_study(study), method, model, some, settings=asked, inputs=read, **further)
    return builder.add(study, method, model, examples, settings=settings, inputs={**inputs, **parts}, **further)
