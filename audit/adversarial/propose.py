"""Calling an attack: it may be anybody's, so it gets a copy of the images, and an error says whose it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from audit.adversarial.gradient_reach import gradients_over_flat_faces
from audit.core.errors import AuditError, Interrupted, NotApplicable, SetupError
from audit.core.registry import Method
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch, Images
from audit.models.batching import is_out_of_memory
from audit.models.under_test import ModelUnderTest


def propose(
    method: Method,
    model: ModelUnderTest,
    batch: Batch,
    threat: ThreatModel,
    generators: Generators,
    settings: Mapping[str, Any],
) -> Images:
    """What an attack proposes for a batch.

    The attack is given a copy of the images: one that writes into them would else move the point from which the
    verifier measures.

    Args:
        method: A registered attack.
        model: The model it sees.
        batch: N examples.
        threat: The threat model.
        generators: One random generator an example.
        settings: The attack's settings, complete.

    Returns:
        Float32 (N, C, H, W), not verified.

    Raises:
        AuditError: The attack failed, or returned no tensor; the sentence names it.
        NotApplicable: The attack has no meaning for this batch or model.
        RuntimeError: Memory ran out, see `audit.models.batching.is_out_of_memory`.
    """
    try:
        with gradients_over_flat_faces(model, threat.norm):
            copied = replace(batch, images=batch.images.clone())
            proposals = method.function(model, copied, threat, generators, **settings)
    except (NotApplicable, SetupError, Interrupted):
        raise
    except AuditError as fault:
        if type(fault) is AuditError:
            raise AuditError(f"Attack {method.name}: {fault}") from fault
        raise
    except Exception as fault:
        if is_out_of_memory(fault):  # the caller asks for fewer examples at a time
            raise
        raise AuditError(f"Attack {method.name} failed: {type(fault).__name__}: {fault}") from fault
    if not isinstance(proposals, Tensor):
        raise AuditError(
            f"Attack {method.name} returned {type(proposals).__name__}; a tensor shaped as the images was expected."
        )
    if proposals.shape != batch.images.shape:
        raise AuditError(
            f"Attack {method.name} returned images of shape {tuple(proposals.shape)} for images of shape "
            f"{tuple(batch.images.shape)}; the same shape was expected."
        )
    return proposals
