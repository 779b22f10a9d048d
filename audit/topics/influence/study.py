"""Training images behind answers, as evidence: the nearest, those that support and oppose, and their controls."""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import log_softmax
from torch import Tensor

from audit.core.cell import Cell
from audit.core.errors import AuditError, Interrupted, NotApplicable
from audit.core.evidence import Array, Evidence, Measurement
from audit.core.registry import study
from audit.core.seeding import derive_seed
from audit.core.types import Batch, Labels
from audit.execution.context import Context
from audit.execution.measured import measured_evidence
from audit.explanation.features import FeaturesAndLogits, features_and_logits, find_head
from audit.metrics.influence import HeadGradients, head_gradients, nearest_rows, refitted_head
from audit.models.under_test import ModelUnderTest
from audit.topics.influence.facts import InfluenceFacts
from audit.topics.influence.scores import noisy_copies, training_scores
from audit.topics.influence.training_images import seen_training, small_pictures, training_pictures
from audit.topics.robustness.facts import ADVERSARIAL_POSITIONS

_SUSPECTS = 8
"""Training images of the largest influence on themselves that are kept."""
_LEFT_OUT = 0.02
"""Share of the training images that is left out when the last layer is fitted anew, the strongest supporters."""
_DECAY = 1e-3
_REFIT_STEPS = 30
"""Steps from the last layer that is fitted to all training images."""


@study()
def influence(context: Context, cell: Cell) -> Evidence:
    """The training images behind the predictions of the examples, by their features and by the influence `cell.method`.

    The loss is that of the predicted class, so that support is support of the answer, right or wrong. TracIn sums over
    checkpoints of the training; here the final weights are the only one, as a model that is given has no other, and
    as those of a model trained here named no more (`samples/benchmarks.md`). Measurements:
    `alike`, the share of an image's neighbours that have the predicted label; `refit_drop`, what the log-probability of
    the prediction loses when its strongest supporters are left out and the last layer is fitted anew, and
    `refit_control`, the same for random training images of the same classes; NaN where that was not done. Arrays:
    `neighbours`, `supporting`, `opposing` int64 (N, k), positions among the training images; `attacked_neighbours`
    int64 (N, k), those of the adversarial image, -1 without one; `predictions` and `attacked_predictions` int64 (N,),
    -1 likewise; `training_labels` int64 (M,); `suspects` int64 (s,), training images of the largest influence on
    themselves, with `suspect_predictions`; `named` int64 (t,), the positions of the pictures `pictures` uint8 (t, C, h,
    w); `tests` uint8 (N, C, h, w). Facts: see `InfluenceFacts`.

    Args:
        context: Gives the model, the examples and the inputs of the cell.
        cell: The cell.

    Raises:
        Interrupted: The user asked to stop.
    """
    model, batch = context.model(), context.batch().to(context.model().device)
    settings, count = cell.settings, cell.settings["count"]
    if context.stopping():
        raise Interrupted("Stopped before looking for the training images behind answers; the same command resumes.")
    with model.count() as counter:
        try:
            scale = find_head(model).scale
        except NotApplicable as fault:
            return Evidence(cell, "not_applicable", reason=fault.reason)
        training = seen_training(context, model, settings["training"])
        pool, asked = training.seen, features_and_logits(model, batch.images)
        copies = features_and_logits(model, noisy_copies(batch.images, cell.seed))
        attacked = _attacked(context, model, batch)
    context.progress(1, 2)
    predictions = asked.logits.argmax(1)
    neighbours = nearest_rows(asked.features, pool.features, count)[0]
    arrays: dict[str, Array] = {"neighbours": neighbours.cpu().numpy(), "predictions": predictions.cpu().numpy()}
    arrays |= _attacked_arrays(attacked, pool, count, len(batch))
    facts = {"copies_nearest": int((_ranks(asked, pool, copies) == 0).sum())}
    alike = (training.labels[neighbours] == predictions[:, None]).double().mean(1).cpu().numpy()
    measurements = [Measurement("alike", "share", "neither", alike)]
    correlation = 0.0
    if scale is not None:
        behind = training_scores(context, model, cell, batch, training, scale)
        arrays |= _ranked(behind.training, count)
        arrays |= _suspects(head_gradients(pool.features, pool.logits, training.labels, scale), pool)
        facts["copies_first"] = int((behind.copies > behind.training.amax(1)).sum())
        correlation = _rank_correlation(behind.training, behind.random)
        drops = _refit(asked, pool, training.labels, predictions, behind.training, settings["refitted"], cell.seed)
        measurements += [
            Measurement(name, "nats", "neither", values)
            for name, values in zip(("refit_drop", "refit_control"), drops, strict=True)
        ]
    context.progress(2, 2)
    named = np.unique(np.concatenate([values.ravel() for name, values in arrays.items() if name in _POSITIONS]))
    named = named[named >= 0]
    arrays |= {
        "training_labels": training.labels.cpu().numpy(),
        "named": named,
        "pictures": training_pictures(context, settings["training"], named),
        "tests": small_pictures(batch.images),
    }
    return measured_evidence(
        cell,
        measurements,
        arrays=arrays,
        facts=InfluenceFacts(
            training=len(training.ids),
            exact=scale is not None,
            copies=len(batch),
            copies_first=facts.get("copies_first", 0),
            copies_nearest=facts["copies_nearest"],
            shared_with_random_labels=correlation,
            names={str(position): training.ids[position] for position in named.tolist()},
        ),
        passes=counter.passes,
    )


_POSITIONS = ("neighbours", "supporting", "opposing", "attacked_neighbours", "suspects")


def _ranks(asked: FeaturesAndLogits, pool: FeaturesAndLogits, copies: FeaturesAndLogits) -> Tensor:
    """How many training images are nearer to each image than its copy, (N,)."""
    own = torch.linalg.vector_norm((asked.features - copies.features).double(), dim=1)
    ranks: Tensor = (nearest_rows(asked.features, pool.features, 1)[1][:, 0] < own).long()
    return ranks


def _rank_correlation(first: Tensor, second: Tensor) -> float:
    """Spearman's correlation of two tables' rows, the mean over rows."""
    ranks = [table.argsort(dim=1).argsort(dim=1).double() for table in (first, second)]
    centred = [rank - rank.mean(1, keepdim=True) for rank in ranks]
    products = (centred[0] * centred[1]).sum(1)
    return float((products / (centred[0].norm(dim=1) * centred[1].norm(dim=1)).clamp(min=1e-300)).mean())


def _ranked(scores: Tensor, count: int) -> dict[str, Array]:
    order = scores.argsort(dim=1, descending=True, stable=True)
    return {
        "supporting": order[:, :count].cpu().numpy(),
        "opposing": order.flip(1)[:, :count].cpu().numpy(),
    }


def _suspects(trained: HeadGradients, pool: FeaturesAndLogits) -> dict[str, Array]:
    most = trained.squares.argsort(dim=0, descending=True, stable=True)[:_SUSPECTS]
    return {"suspects": most.cpu().numpy(), "suspect_predictions": pool.logits[most].argmax(1).cpu().numpy()}


def _refit(
    asked: FeaturesAndLogits,
    pool: FeaturesAndLogits,
    labels: Labels,
    predictions: Labels,
    scores: Tensor,
    answers: int,
    seed: int,
) -> tuple[Array, Array]:
    """What the log-probability of a prediction loses without its supporters, and without random images, (N,) each."""
    drop, control = (np.full(len(predictions), np.nan) for _ in range(2))
    size = float(pool.features.double().square().mean().sqrt()) or 1.0
    features, tests = (seen.features.double().cpu().numpy() / size for seen in (pool, asked))
    known, answered = labels.cpu().numpy(), predictions.cpu().numpy()
    classes, left_out = pool.logits.shape[1], max(1, round(_LEFT_OUT * len(known)))
    whole = refitted_head(features, known, classes, decay=_DECAY)
    draws = np.random.default_rng(derive_seed("influence refit", seed))
    order = (-scores).cpu().numpy().argsort(axis=1, kind="stable")[:, :left_out]

    def log_probability(weights: Array, row: int) -> float:
        return float(log_softmax(weights[:, :-1] @ tests[row] + weights[:, -1])[answered[row]])

    for row in range(min(answers, len(answered))):
        for values, removed in ((drop, order[row]), (control, _same_labels(order[row], known, draws))):
            kept = np.setdiff1d(np.arange(len(known)), removed)
            without = refitted_head(features[kept], known[kept], classes, whole, decay=_DECAY, steps=_REFIT_STEPS)
            values[row] = log_probability(whole, row) - log_probability(without, row)
    return drop, control


def _same_labels(positions: Array, labels: Array, draws: np.random.Generator) -> Array:
    """Random positions with as many of each label."""
    sizes = zip(*np.unique(labels[positions], return_counts=True), strict=True)
    return np.concatenate([draws.choice(np.flatnonzero(labels == label), size, replace=False) for label, size in sizes])


def _attacked(context: Context, model: ModelUnderTest, batch: Batch) -> tuple[Tensor, FeaturesAndLogits] | None:
    """The rows of the batch whose adversarial images were stored and changed, with what the model makes of them."""
    if "robustness" not in context.task.cell.inputs:
        return None
    try:
        arrays = context.evidence("robustness").arrays
    except (AuditError, NotApplicable):
        return None
    if "adversarial" not in arrays:
        return None
    stored = arrays["adversarial"]
    where = arrays.get(ADVERSARIAL_POSITIONS, np.arange(len(stored)))
    start = context.task.examples.start
    rows = [(int(position) - start, row) for row, position in enumerate(where) if 0 <= position - start < len(batch)]
    if not rows:
        return None
    images = torch.from_numpy(stored[[row for _, row in rows]].copy()).to(batch.images)
    at = torch.tensor([position for position, _ in rows], device=batch.images.device)
    asked = features_and_logits(model, images)
    wrong = asked.logits.argmax(1) != batch.labels[at].to(asked.logits.device)
    changed = wrong & (images != batch.images[at]).flatten(1).any(1).to(wrong.device)
    return at.to(wrong.device)[changed], FeaturesAndLogits(asked.features[changed], asked.logits[changed])


def _attacked_arrays(
    attacked: tuple[Tensor, FeaturesAndLogits] | None, pool: FeaturesAndLogits, count: int, images: int
) -> dict[str, Array]:
    neighbours = np.full((images, min(count, len(pool.features))), -1, np.int64)
    predictions = np.full(images, -1, np.int64)
    if attacked is not None and len(attacked[0]):
        rows, asked = attacked
        neighbours[rows.cpu().numpy()] = nearest_rows(asked.features, pool.features, count)[0].cpu().numpy()
        predictions[rows.cpu().numpy()] = asked.logits.argmax(1).cpu().numpy()
    return {"attacked_neighbours": neighbours, "attacked_predictions": predictions}
