"""HopSkipJump, by foolbox."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from audit.adversarial.decision_based import MAX_START_QUERIES, run_from_starts
from audit.core.registry import attack
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch, Images, PassCount
from audit.models.under_test import ModelUnderTest


def _queries(steps: int, first_queries: int, most_queries: int) -> int:
    """Of one example at most: the start, the estimates, and per step two searches of some 30 queries each."""
    estimates = sum(int(min(first_queries * math.sqrt(k + 1), most_queries)) for k in range(steps))
    return MAX_START_QUERIES + estimates + 64 * (steps + 1)


@attack(
    reference="arXiv:1904.02144",
    needs="decisions",
    norms=("l2", "linf"),
    minimal=True,
    wraps="foolbox",
    passes=lambda s, shape: PassCount(_queries(**s), 0),
    effort=("steps",),
)
def hopskipjump(
    model: ModelUnderTest,
    batch: Batch,
    threat: ThreatModel,
    generators: Generators,
    *,
    steps: int = 24,
    first_queries: int = 100,
    most_queries: int = 1000,
) -> Images:
    """The boundary's normal estimated from labels around it, then a jump and a bisection, `steps` times.

    The estimate of step k takes min(first_queries sqrt(k), most_queries) queries.

    Args:
        model: The model under attack.
        batch: N examples: images float32 (N, C, H, W) in [0, 1], labels, and which predictions count as misclassified.
        threat: The norm and eps of the ball that proposals stay in.
        generators: One random generator an example.
        steps: Estimates of the normal.
        first_queries: Queries of the first estimate.
        most_queries: Queries of one estimate at most.

    Returns:
        Proposals, float32 (N, C, H, W), in the ball; the clean image where none was found.
    """
    return run_from_starts(
        {norm: partial(_in_one_forward, norm) for norm in ("l2", "linf")},
        model,
        batch,
        threat,
        generators,
        steps=steps,
        initial_gradient_eval_steps=first_queries,
        max_gradient_eval_steps=most_queries,
    )


def _in_one_forward(norm: str, foolbox: Any) -> Any:
    """foolbox's attack with the queries of one estimate asked together; foolbox asks them one after another."""
    import eagerpy as ep

    class BatchedHopSkipJumpAttack(foolbox.attacks.HopSkipJumpAttack):  # type: ignore[misc]
        def __init__(self, **arguments: Any) -> None:
            super().__init__(constraint=norm, **arguments)

        def approximate_gradients(self, is_adversarial: Any, x_advs: Any, steps: int, delta: Any) -> Any:
            shape = (steps, *x_advs.shape[1:])
            noise = ep.normal(x_advs, shape) if norm == "l2" else ep.uniform(x_advs, shape, low=-1, high=1)
            noise = noise / noise.reshape((steps, -1)).norms.l2(axis=-1).reshape((steps, 1, 1, 1))
            queries = (x_advs + delta.reshape((1, 1, 1, 1)) * noise).clip(0, 1)
            answers = is_adversarial(queries).astype(queries.dtype) * 2 - 1
            moved = (queries - x_advs) / delta.reshape((1, 1, 1, 1))
            if abs(answers.mean().item()) != 1:
                answers = answers - answers.mean()
            normal = (answers.reshape((steps, 1, 1, 1)) * moved).mean(axis=0, keepdims=True)
            return normal / (normal.reshape((-1,)).norms.l2() + 1e-12)

    return BatchedHopSkipJumpAttack
