"""Maps of found boxes and how the methods do: rows of the document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from audit.core.statistics import bootstrap_mean, share_of
from audit.document.images import heatmap, picture
from audit.document.model import Cost, DocumentModel, Heatmap, Picture, Proportion, cost_of, proportion
from audit.document.section import Rows, SectionContext
from audit.results.queries import only_measured
from audit.results.run_results import RunResults, TaskResult

_SIGNED = frozenset({"d-rise"})


class BoxMethodRow(DocumentModel):
    """One method on the boxes of one detector; areas are means of the similarity over the curve, in [0, 1].

    Attributes:
        role: The detector's role.
        method: Name of the method; "random" or "box" for a control.
        boxes: How many boxes.
        deletion: Area under the deletion curve, lower is better.
        insertion: Area under the insertion curve, higher is better.
        pointing: Share of the maps whose highest value lies in the box; None for a control.
        mass: Share of the map's positive part that lies in the box; of a control the box's share of the image.
        cost: What it cost.
    """

    role: str
    method: str
    boxes: int
    deletion: Proportion
    insertion: Proportion
    pointing: Proportion | None
    mass: Proportion
    cost: Cost


class ExplainedBox(DocumentModel):
    """One found box with its maps.

    Attributes:
        role: The detector's role.
        id: Name of the image.
        label: Name of the found class.
        score: Its score.
        corners: x1, y1, x2, y2 as shares of the width and the height.
        image: The picture.
        maps: By method, the map.
    """

    role: str
    id: str
    label: str
    score: float
    corners: tuple[float, float, float, float]
    image: Picture
    maps: dict[str, Heatmap]


def build(results: RunResults, context: SectionContext) -> Rows:
    """Each detector of the run.

    Args:
        results: The run.
        context: What the rows need besides the evidence.
    """
    rows: list[BoxMethodRow] = []
    shown: list[ExplainedBox] = []
    for role in context.roles:
        methods = _by_method(results, role)
        rows += [_method_row(role, method, entries) for method, entries in methods.items()]
        rows += _controls(role, only_measured(results.entries("box-controls", role=role)))
        if context.pictures:
            shown += _explained(role, methods, context.classes)
    return {"box_methods": rows, "explained_boxes": shown}


def _by_method(results: RunResults, role: str) -> dict[str, tuple[TaskResult, ...]]:
    groups: dict[str, tuple[TaskResult, ...]] = {}
    for entry in only_measured(results.entries("box-explanation", role=role)):
        groups[entry.task.cell.method] = (*groups.get(entry.task.cell.method, ()), entry)
    return groups


def _mean(entries: Sequence[TaskResult], name: str) -> Proportion:
    values = np.concatenate([entry.evidence.arrays[name] for entry in entries])
    return proportion(bootstrap_mean(values))


def _method_row(role: str, method: str, entries: Sequence[TaskResult]) -> BoxMethodRow:
    pointing = np.concatenate([entry.evidence.arrays["pointing"] for entry in entries])
    return BoxMethodRow(
        role=role,
        method=method,
        boxes=len(pointing),
        deletion=_mean(entries, "deletion"),
        insertion=_mean(entries, "insertion"),
        pointing=proportion(share_of(pointing)),
        mass=_mean(entries, "mass"),
        cost=cost_of(entries),
    )


def _controls(role: str, entries: Sequence[TaskResult]) -> Iterator[BoxMethodRow]:
    for name in ("box", "random") if entries else ():
        yield BoxMethodRow(
            role=role,
            method=name,
            boxes=sum(entry.evidence.facts["boxes"] for entry in entries),
            deletion=_mean(entries, f"deletion_{name}"),
            insertion=_mean(entries, f"insertion_{name}"),
            pointing=None,
            mass=_mean(entries, "share"),
            cost=cost_of(entries),
        )


def _explained(role: str, methods: dict[str, tuple[TaskResult, ...]], classes: Sequence[str]) -> Iterator[ExplainedBox]:
    """The boxes whose maps were kept: the first of each method are the same boxes."""
    kept = {method: entries[0].evidence.arrays for method, entries in methods.items()}
    first = next(iter(kept.values()), None)
    for row in range(0 if first is None else len(first["pictures"])):
        assert first is not None
        image = first["pictures"][row]
        height, width = image.shape[1:]
        x1, y1, x2, y2 = np.clip(first["boxes"][row] / np.array([width, height, width, height]), 0, 1).tolist()
        yield ExplainedBox(
            role=role,
            id=f"#{int(first['owners'][row])}",
            label=classes[int(first["labels"][row])],
            score=float(first["scores"][row]),
            corners=(x1, y1, x2, y2),
            image=picture(image),
            maps={name: heatmap(arrays["maps"][row][None], signed=name in _SIGNED) for name, arrays in kept.items()},
        )
