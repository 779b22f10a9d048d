"""Where an attack takes its gradients on a model whose answer is flat near black or white."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from audit.adversarial.red_flags import RedFlag, flag_if_above
from audit.core.threat import Norm
from audit.models.under_test import ModelUnderTest


@contextmanager
def gradients_over_flat_faces(model: ModelUnderTest, norm: Norm) -> Iterator[None]:
    """Within the block gradients in linf are taken where flat faces end, so that steps which cross them are taken.

    In the other norms a step into a flat face costs a part of the budget, and gradients stay at the image.

    Args:
        model: The model under attack.
        norm: Which norm bounds the change.
    """
    near = model.gradient_point
    if norm != "linf" or model.furthest_gradient_point == near:
        yield
        return
    model.gradient_point = model.furthest_gradient_point
    try:
        yield
    finally:
        model.gradient_point = near


def flat_face_flag(model: ModelUnderTest, norm: Norm) -> RedFlag | None:
    """Raised for a norm in which gradients do not see over the flat faces that a model has.

    Args:
        model: The model under attack.
        norm: Which norm bounds the change.
    """
    furthest = model.furthest_gradient_point
    if norm == "linf" or furthest == furthest.near:
        return None
    return flag_if_above("flat_faces", furthest.depth, norm=norm)
