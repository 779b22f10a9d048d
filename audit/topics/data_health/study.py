"""The data as evidence, before any model: copies, mistaken labels, blank and unusual images, kinds of file, shift."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from audit.core.cell import Cell
from audit.core.errors import AuditError, Interrupted
from audit.core.evidence import Evidence
from audit.core.registry import study
from audit.data.dataset import Dataset
from audit.data.health.association import Property, associations, colour_modes, size_properties
from audit.data.health.held_out_scores import FOLDS, held_out_scores
from audit.data.health.label_noise import LabelNoise, can_tell, label_noise
from audit.data.health.near_copies import find_copies
from audit.data.health.signature import Signatures, sign_splits
from audit.data.health.two_samples import compare
from audit.data.health.unusual import LIMIT, unusual
from audit.data.sampling import balanced_order
from audit.document.model import proportion
from audit.execution.context import Context
from audit.execution.measured import measured_evidence
from audit.topics.data_health.copies import DataParts, copy_issues, leaked_images
from audit.topics.data_health.facts import HealthFacts, IssueFacts, KindFacts, LabelFacts, PartFacts
from audit.topics.data_health.shown import pictures_of

MOST_ISSUES = 20_000
"""Issues that are kept: beyond it, a data set is not mended image by image."""


@study()
def data_health(context: Context, cell: Cell) -> Evidence:
    """Read every image once and measure what needs no model.

    Arrays: `leaked` int64 (L,), positions in the audit order of test images that are copies of training images; `shown`
    and `pictures`, see `pictures_of`. Facts: see `HealthFacts`.

    Args:
        context: Gives the data.
        cell: Its settings hold the fingerprints of the data and whether it is labelled.

    Raises:
        Interrupted: The user asked to stop.
    """
    data = _dataset(context)
    parts = DataParts(data)
    total, labelled = len(parts), bool(cell.settings["labelled"])
    signatures = sign_splits(parts.splits, _steps(context, 0, 3 * total))
    copies = find_copies(signatures, _steps(context, total, 3 * total))
    leaks = leaked_images(parts, copies)
    strange = unusual(signatures)
    noise = _training_noise(parts, signatures, cell.seed, _steps(context, 2 * total, 3 * total)) if labelled else None
    issues = [
        *copy_issues(parts, copies, labelled=labelled),
        *_blank(parts, signatures),
        *_unusual(parts, strange),
        *([] if noise is None else label_issues(parts, 0, noise)),
    ]
    kept = issues[:MOST_ISSUES]
    seen = balanced_order(data.test, cell.seed)
    order = np.argsort(seen, kind="stable")
    shift = compare(_of(signatures, parts, "train"), _of(signatures, parts, "test"), cell.seed) if data.train else None
    return measured_evidence(
        cell,
        arrays={
            "leaked": np.sort(order[leaks - parts.starts[-1]]),
            **(pictures_of(parts, kept) if cell.settings["pictures"] else {}),
        },
        facts=HealthFacts(
            parts=tuple(
                _part(parts, at, signatures, strange, kept, noise, labelled) for at in range(len(parts.splits))
            ),
            issues=tuple(kept),
            left_out=len(issues) - len(kept),
            kinds=tuple(_kinds(parts, signatures, cell.seed)) if labelled else (),
            auc=shift.auc.estimate if shift else None,
            auc_interval=(shift.auc.low, shift.auc.high) if shift else None,
            compared=shift.auc.n if shift else 0,
            p_value=shift.p_value if shift else 1.0,
            ratio=copies.ratio,
            leaked=len(leaks),
            classes=data.classes,
            labelled=labelled,
        ),
    )


@study()
def label_errors(context: Context, cell: Cell) -> Evidence:
    """Ask which labels of test images the model's predictions contradict; the model has not learnt from them.

    Arrays: see `pictures_of`. Facts: see `LabelFacts`.

    Args:
        context: Gives the data, and the clean accuracy of the first model.
        cell: Its inputs are the cells of clean accuracy.
    """
    data = _dataset(context)
    parts = DataParts(data)
    clean = [context.evidence(name).arrays for name in sorted(cell.inputs, key=lambda name: int(name.split()[1]))]
    logits = np.concatenate([arrays["logits"] for arrays in clean])
    order = balanced_order(data.test, cell.seed)[: len(logits)]
    scores = np.zeros((len(data.test), logits.shape[1]), np.float32)
    scores[order] = logits
    noise = label_noise(scores, data.test.labels)
    issues = label_issues(parts, len(parts.splits) - 1, noise)[:MOST_ISSUES]
    return measured_evidence(
        cell,
        arrays=pictures_of(parts, issues) if cell.settings["pictures"] else {},
        facts=LabelFacts(wrong=proportion(noise.share), agreement=noise.agreement, issues=tuple(issues)),
    )


def label_issues(parts: DataParts, at: int, noise: LabelNoise) -> list[IssueFacts]:
    """The images whose label is more likely wrong than right, the likeliest first; none where the scores cannot tell.

    Args:
        parts: The images.
        at: Number of the part.
        noise: The fitted channel on that part.
    """
    if not can_tell(noise.agreement, noise.share.high):
        return []
    suspects = np.flatnonzero(noise.wrong > 0.5)
    return [
        IssueFacts(
            issue="label",
            partner_label=parts.classes[int(noise.suggested[row])],
            score=float(noise.wrong[row]),
            **parts.describe(parts.starts[at] + row),
        )
        for row in suspects[np.argsort(-noise.wrong[suspects], kind="stable")].tolist()
    ]


def _dataset(context: Context) -> Dataset:
    if context.dataset is None:
        raise AuditError("The data cannot be surveyed outside a run: there is no data set.")
    return context.dataset


def _steps(context: Context, before: int, total: int) -> Callable[[int], None]:
    def progress(done: int) -> None:
        if context.stopping():
            raise Interrupted("Stopped before the data was surveyed; the same command resumes.")
        context.progress(min(before + done, total), total)

    return progress


def _training_noise(
    parts: DataParts, signatures: Signatures, seed: int, progress: Callable[[int], None]
) -> LabelNoise | None:
    """The channel on the training images, where there are enough of them for a small classifier; else None."""
    if parts.names[0] != "train":
        return None
    rows = slice(0, len(parts.splits[0]))
    labels, classes = parts.splits[0].labels, len(parts.classes)
    if len(labels) < 10 * FOLDS * classes or classes < 2:
        return None
    return label_noise(
        held_out_scores(signatures.coefficients[rows], labels, classes=classes, seed=seed, progress=progress), labels
    )


def _blank(parts: DataParts, signatures: Signatures) -> list[IssueFacts]:
    return [IssueFacts(issue="blank", **parts.describe(row)) for row in np.flatnonzero(signatures.blank).tolist()]


def _unusual(parts: DataParts, strange: NDArray[np.float64]) -> list[IssueFacts]:
    rows = np.flatnonzero(strange > LIMIT)
    rows = rows[np.argsort(-strange[rows], kind="stable")]
    return [IssueFacts(issue="unusual", score=float(strange[row]), **parts.describe(row)) for row in rows.tolist()]


def _kinds(parts: DataParts, signatures: Signatures, seed: int) -> list[KindFacts]:
    rows = []
    for at, (name, split) in enumerate(zip(parts.names, parts.splits, strict=True)):
        span = slice(parts.starts[at], parts.starts[at] + len(split))
        properties: dict[Property, NDArray[np.str_]] = {"colour": colour_modes(signatures.statistics[span, 2])}
        if split.sizes is not None:
            properties |= size_properties(split.sizes)
        for found in associations(split.labels, properties, seed):
            values = {key: value for key, value in vars(found).items() if key != "label"}
            rows.append(KindFacts(split=name, label=parts.classes[found.label], **values))
    return rows


def _part(
    parts: DataParts,
    at: int,
    signatures: Signatures,
    strange: NDArray[np.float64],
    issues: Sequence[IssueFacts],
    noise: LabelNoise | None,
    labelled: bool,
) -> PartFacts:
    split, name = parts.splits[at], parts.names[at]
    span = slice(parts.starts[at], parts.starts[at] + len(split))
    judged = noise if name == "train" else None
    return PartFacts(
        split=name,
        images=len(split),
        blank=int(signatures.blank[span].sum()),
        unusual=int((strange[span] > LIMIT).sum()),
        duplicated=sum(issue.issue == "duplicate" and issue.split == name for issue in issues),
        counts=tuple(np.bincount(split.labels, minlength=len(parts.classes)).tolist()) if labelled else (),
        wrong=proportion(judged.share) if judged else None,
        agreement=judged.agreement if judged else None,
    )


def _of(signatures: Signatures, parts: DataParts, name: str) -> Signatures:
    at = parts.names.index(name)
    rows = slice(parts.starts[at], parts.starts[at] + len(parts.splits[at]))
    return Signatures(**{key: value[rows] for key, value in vars(signatures).items()})
