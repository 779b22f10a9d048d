"""The surrogate as evidence: trained once per model, and attacked by every study that transfers."""

from __future__ import annotations

import numpy as np
import torch

from audit.core.cell import Cell
from audit.core.evidence import Evidence, Measurement
from audit.core.registry import study
from audit.execution.context import Context
from audit.execution.measured import measured_evidence
from audit.execution.stored_model import WEIGHTS, stored_weights
from audit.models.architecture import build
from audit.models.under_test import ModelUnderTest
from audit.topics.surrogate.facts import SurrogateFacts, SurrogateSettings
from audit.training.callbacks import TrainingCallbacks
from audit.training.surrogate import same_predictions, surrogate_of


@study()
def surrogate(context: Context, cell: Cell) -> Evidence:
    """A small net trained to answer as `cell.model` does, on one in `SurrogateSettings.every` of its examples.

    Measurement `agrees`: whether both predict the same class, on the example after each that it was trained on, NaN
    elsewhere. Arrays: the weights, under "weights/". Facts: see `SurrogateFacts`.

    Args:
        context: Gives the model, the examples and the inputs of the cell.
        cell: The cell.
    """
    settings = SurrogateSettings.of(cell)
    model, batch, every = context.model(), context.batch(), settings.every
    taught_on, held_out = (batch.select(torch.arange(first, len(batch), every)) for first in (0, 1))
    role = f"surrogate of the {context.task.role}"
    callbacks = TrainingCallbacks(context.scratch, context.progress, context.stopping, role=role)
    fitted = surrogate_of(model, taught_on, seed=cell.seed, epochs=settings.epochs, callbacks=callbacks)
    agrees = np.full(len(batch), np.nan)
    with model.count() as counter, fitted.model.count() as surrogate_counter:
        agrees[1::every] = same_predictions(model, fitted.model, held_out).cpu().double().numpy()
    return measured_evidence(
        cell,
        (Measurement("agrees", "share", "higher", agrees),),
        arrays={WEIGHTS + name: weight.numpy() for name, weight in fitted.trained.weights.items()},
        facts=SurrogateFacts(
            architecture=fitted.architecture,
            taught_on=fitted.images,
            classes=fitted.model.classes,
            input_shape=fitted.model.input_shape,
            mean=fitted.trained.mean,
            std=fitted.trained.std,
            agreement=float(np.nanmean(agrees)),
            elsewhere=settings.elsewhere,
        ),
        passes=fitted.passes + counter.passes + surrogate_counter.passes,
    )


def surrogate_model(evidence: Evidence, device: torch.device | str) -> ModelUnderTest:
    """Rebuild the surrogate of a study.

    Args:
        evidence: Evidence of the surrogate study.
        device: Where the model is to be.
    """
    facts = evidence.facts_as(SurrogateFacts)
    classes, shape = facts.classes, facts.input_shape
    module = build(facts.architecture, classes=len(classes), input_shape=shape, seed=evidence.cell.seed)
    module.load_state_dict(stored_weights(evidence))
    return ModelUnderTest(module, classes=classes, input_shape=shape, mean=facts.mean, std=facts.std, device=device)
