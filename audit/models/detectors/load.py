"""Loading of detectors: weights as data by default, code only when it is trusted."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from audit.config import ModelConfig
from audit.core.errors import ModelError
from audit.models.detectors.build import DetectorClasses, as_detector_form, build_detector
from audit.models.detectors.form import DetectorForm
from audit.models.detectors.torchvision_form import OneStageForm, TwoStageForm
from audit.models.files import basename, is_code
from audit.models.formats.hf_config import is_folder
from audit.models.identity import model_identity, with_companions
from audit.models.load import read_weights
from audit.models.loaded import InputShape, LoadedModel
from audit.models.state_dict import load_matching


def load_detector(
    config: ModelConfig, classes: DetectorClasses, input_shape: InputShape, *, device: torch.device | str, seed: int
) -> LoadedModel:
    """Load the detector that a configuration names; its module is a `DetectorForm`.

    Args:
        config: The [model] table, with weights, or with a function that returns them.
        classes: The classes of the data.
        input_shape: (C, H, W) of the images.
        device: Where it is put.
        seed: Root of whatever is drawn.

    Raises:
        ModelError: The file does not hold a detector of these classes.
        UntrustedError: It is code that is not trusted.
    """
    identity = model_identity(config, classes=_identified(classes), input_shape=input_shape, seed=seed)
    if config.weights is None:
        form, trusted = build_detector(config.architecture, classes, input_shape, seed=seed, trust=config.trust)
        return _loaded(
            form,
            identity,
            Path(config.architecture).name,
            device,
            architecture=config.architecture,
            trusted=tuple(file.row() for file in trusted),
            whole=is_code(config.architecture),
        )
    name = basename(config.weights)
    if is_folder(config.weights):
        from audit.models.detectors.transformers_form import read_detector_folder

        form = read_detector_folder(config.weights, classes, input_shape)
        return _loaded(form, identity, name, device, whole=True)
    if config.weights.lower().endswith(".onnx"):
        from audit.models.detectors.onnx_form import read_onnx_detector

        form = read_onnx_detector(Path(config.weights), classes, input_shape)
        return _loaded(form, identity, name, device, whole=True)
    content = read_weights(config.weights, config.trust, config.weights_entry)
    files = tuple(file.row() for file in content.trusted)
    if content.module is not None:
        form = as_detector_form(content.module, classes)
        return _loaded(form, with_companions(identity, content.companions), name, device, trusted=files, whole=True)
    if config.architecture == "auto":
        raise ModelError(
            f"{name} holds weights alone, and which detector they belong to is not said: name it, as "
            "--architecture torchvision:fasterrcnn_resnet50_fpn."
        )
    form, trusted = build_detector(
        config.architecture, classes, input_shape, seed=seed, trust=config.trust, state=content.state
    )
    assert content.state is not None
    state = load_matching(
        _inner(form), content.state, checkpoint=name, architecture=config.architecture, entry=config.weights_entry
    )
    return _loaded(
        form,
        with_companions(identity, content.companions),
        f"{name} ({config.architecture})",
        device,
        architecture=config.architecture,
        notes=(*content.notes, *state.notes),
        trusted=(*files, *(file.row() for file in trusted)),
    )


def _loaded(form: DetectorForm, identity: str, origin: str, device: torch.device | str, **facts: object) -> LoadedModel:
    form.to(device).eval()
    notes = (*facts.pop("notes", ()), *form.notes)  # type: ignore[misc]
    return LoadedModel(form, identity, origin, notes=notes, **facts)  # type: ignore[arg-type]


def _inner(form: DetectorForm) -> nn.Module:
    """The module whose names a file of weights has."""
    return form.detector if isinstance(form, OneStageForm | TwoStageForm) else form


def _identified(classes: DetectorClasses) -> tuple[str, ...]:
    """Names with the numbers of the annotations, as these decide which output is which class."""
    if classes.category_ids is None:
        return classes.names
    return tuple(f"{number}:{name}" for number, name in zip(classes.category_ids, classes.names, strict=True))
