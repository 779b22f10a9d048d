"""Models that training and compression studies made, rebuilt from their evidence."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from audit.core.evidence import Evidence
from audit.models.compression.static_int8 import differentiable_form
from audit.models.detectors.form import DetectorForm
from audit.models.detectors.under_test import DetectorUnderTest
from audit.models.formats.onnx_runtime_net import OnnxRuntimeNet
from audit.models.load_state import load_state
from audit.models.resize_layers import match_state_dict
from audit.models.under_test import ModelUnderTest
from audit.planning.settings import ModelSettings
from audit.results.facts import ModelFacts

WEIGHTS = "weights/"
"""Prefix of the arrays of a float32 state dict."""
PACKED = "packed/"
"""Prefix of the arrays that are stored instead of the state dict where they are smaller."""
ONNX_FILE = "file/model.onnx"
"""The array of bytes of a model that is a file of its own: its runtime answers, its conversion gives gradients."""


def trained_model(evidence: Evidence, *, device: torch.device | str, module: nn.Module) -> ModelUnderTest:
    """Rebuild the model of a training or a compression study.

    Args:
        evidence: The study's evidence.
        device: Where the model is to be.
        module: A net of the run's architecture, changed in place: its layers are cut to the shapes of the weights.

    Returns:
        The model.
    """
    settings, facts = ModelSettings.of(evidence.cell), evidence.facts_as(ModelFacts)
    if ONNX_FILE in evidence.arrays:
        return _from_file(np.asarray(evidence.arrays[ONNX_FILE]).tobytes(), settings, device)
    weights = stored_weights(evidence)
    load_state(match_state_dict(module, weights, cut=facts.cut), weights)
    return ModelUnderTest(
        module,
        classes=settings.classes,
        input_shape=settings.input_shape,
        mean=facts.mean,
        std=facts.std,
        device=device,
    )


def _from_file(file: bytes, settings: ModelSettings, device: torch.device | str) -> ModelUnderTest:
    model = ModelUnderTest(
        differentiable_form(file), classes=settings.classes, input_shape=settings.input_shape, device=device
    )
    model.runtime = OnnxRuntimeNet(file)
    return model


def trained_detector(evidence: Evidence, *, device: torch.device | str, form: DetectorForm) -> DetectorUnderTest:
    """Rebuild the detector of a training study.

    Args:
        evidence: The study's evidence.
        device: Where the detector is to be.
        form: A detector of the run's architecture, changed in place.

    Returns:
        The detector.
    """
    settings = ModelSettings.of(evidence.cell)
    load_state(form, stored_weights(evidence))
    return DetectorUnderTest(form, classes=settings.classes, input_shape=settings.input_shape, device=device)


def stored_weights(evidence: Evidence) -> dict[str, Tensor]:
    """Read the state dict in a study's evidence.

    Args:
        evidence: Evidence with arrays under "weights/".

    Returns:
        Float32 tensors on the CPU, by name.
    """
    return {
        name.removeprefix(WEIGHTS): torch.from_numpy(np.array(array))
        for name, array in evidence.arrays.items()
        if name.startswith(WEIGHTS)
    }
