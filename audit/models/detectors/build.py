"""Detectors by the name of their architecture, with new weights."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from audit.config import TrustConfig
from audit.core.errors import ModelError, UsageError, fault_line, unknown_name
from audit.core.seeding import derive_seed
from audit.models.detectors.class_map import ClassMap
from audit.models.detectors.form import DetectorForm
from audit.models.detectors.torchvision_form import torchvision_form, torchvision_kind
from audit.models.files import is_code
from audit.models.formats.user_code import build_from_code
from audit.models.loaded import InputShape, TrustedFile
from audit.models.zoo.fcos_small import fcos_small

DETECTOR_ZOO: Mapping[str, Callable[[int, InputShape], DetectorForm]] = {"fcos-small": fcos_small}
"""`(classes, (C, H, W)) -> detector` by name."""
_LIBRARY = "torchvision"


@dataclass(frozen=True)
class DetectorClasses:
    """The classes of the data, and how its annotations number them.

    Attributes:
        names: In order.
        category_ids: The number of each in the annotations; None where they count from 0.
    """

    names: tuple[str, ...]
    category_ids: tuple[int, ...] | None = None


def build_detector(
    name: str,
    classes: DetectorClasses,
    input_shape: InputShape,
    *,
    seed: int,
    trust: Sequence[TrustConfig] = (),
    state: Mapping[str, Tensor] | None = None,
) -> tuple[DetectorForm, tuple[TrustedFile, ...]]:
    """A detector with fresh weights, on the CPU, with as many outputs as a state dict has.

    Weights are drawn from `seed` alone; torch's global generators stay as they were.

    Args:
        name: A zoo name, `torchvision:NAME` or `torchvision:NAME:KEY=VALUE,...`, or FILE.py:FUNCTION.
        classes: The classes of the data.
        input_shape: (C, H, W) of the images.
        seed: Root of the random weights.
        trust: The files whose code may run.
        state: The weights that it is to hold, which say how many outputs it has; None for one a class.

    Returns:
        The detector, and the code that was run to make it.

    Raises:
        UsageError: The name is unknown.
        ModelError: The outputs are not those of the classes.
    """
    if is_code(name):
        module, file = build_from_code(name, trust, classes=len(classes.names), input_shape=input_shape, seed=seed)
        return as_detector_form(module, classes), (file,)
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(derive_seed("weights", name, seed))
        if name in DETECTOR_ZOO:
            return DETECTOR_ZOO[name](len(classes.names), input_shape).train(), ()
        if not name.startswith(f"{_LIBRARY}:"):
            raise unknown_name(
                "architecture of a detector", name, [*DETECTOR_ZOO, "torchvision:NAME", "FILE.py:FUNCTION"]
            )
        module = _of_torchvision(name, len(classes.names) + 1)
        usual = len(classes.names) + 1
        outputs = usual if state is None else _outputs_of(module, state, usual)
        if outputs != usual:
            module = _of_torchvision(name, outputs)
        return as_detector_form(module, classes, outputs), ()


def as_detector_form(module: nn.Module, classes: DetectorClasses, outputs: int | None = None) -> DetectorForm:
    """The form of a module: its own, that of torchvision's detectors, or of one that is called as they are.

    Args:
        module: The module.
        classes: The classes of the data.
        outputs: How many outputs it has, the background among them; None for one more than there are classes.
    """
    if isinstance(module, DetectorForm):
        return module
    if torchvision_kind(module):
        return torchvision_form(module, class_map_after_background(classes, outputs or len(classes.names) + 1))
    from audit.models.detectors.called_form import CalledForm

    return CalledForm(module, len(classes.names))


def class_map_after_background(classes: DetectorClasses, outputs: int) -> ClassMap:
    """What the outputs of one of torchvision's detectors stand for: the background first.

    Where there is one more than there are classes they are in order; else they are the numbers of the annotations, as
    COCO's 91 are, of which 80 occur.

    Args:
        classes: The classes of the data.
        outputs: How many there are.

    Raises:
        ModelError: They are neither.
    """
    names, ids = classes.names, classes.category_ids
    if outputs == len(names) + 1:
        return ClassMap.after_background(len(names))
    if ids is not None and max(ids) < outputs:
        return ClassMap.of([ids.index(own) if own in ids and own else None for own in range(outputs)], names)
    numbers = "" if ids is None else f", whose category numbers go up to {max(ids)}"
    raise ModelError(
        f"The detector has {outputs - 1} outputs beside the background, the data {len(names)} classes{numbers}: "
        "give the data it was trained on, or a model of these classes."
    )


def names_a_detector(architecture: str) -> bool:
    """Whether an architecture that is not code is a detector's.

    Args:
        architecture: As in the configuration.
    """
    library, _, name = architecture.partition(":")
    if library != _LIBRARY or not name:
        return architecture in DETECTOR_ZOO
    return name.partition(":")[0] in _torchvision_names()


def _torchvision_names() -> list[str]:
    detection = importlib.import_module("torchvision.models.detection")
    models = importlib.import_module("torchvision.models")
    names: list[str] = models.list_models(module=detection)
    return [name for name in names if not name.startswith(("maskrcnn", "keypointrcnn"))]


def _of_torchvision(architecture: str, outputs: int) -> nn.Module:
    _, _, rest = architecture.partition(":")
    name, _, settings = rest.partition(":")
    if name not in _torchvision_names():
        raise unknown_name("detector of torchvision", name, _torchvision_names())
    models = importlib.import_module("torchvision.models")
    try:
        module: nn.Module = models.get_model(
            name, weights=None, weights_backbone=None, num_classes=outputs, **_settings(settings)
        )
    except (TypeError, ValueError) as fault:
        raise UsageError(f"{architecture} cannot be built: {fault_line(fault)}. Leave that setting out.") from fault
    return module


def _settings(text: str) -> dict[str, int | float]:
    pairs = [part.partition("=") for part in text.split(",") if part]
    try:
        return {key.strip(): float(value) if "." in value else int(value) for key, _, value in pairs}
    except ValueError:
        raise UsageError(
            f"The settings {text!r} are not numbers: write them as torchvision:NAME:min_size=320,box_score_thresh=0.3."
        ) from None


def _outputs_of(module: nn.Module, state: Mapping[str, Tensor], outputs: int) -> int:
    """How many outputs the classifier in a state dict has, by how its shape differs from that of `outputs`."""
    for name, own in module.state_dict().items():
        if "cls" not in name and "classification_head" not in name:
            continue
        stored = next((value for key, value in state.items() if key.endswith(name)), None)
        if stored is None or stored.ndim != own.ndim or stored.shape[0] == own.shape[0]:
            continue
        if own.shape[0] % outputs == 0 and (int(stored.shape[0]) * outputs) % own.shape[0] == 0:
            return int(stored.shape[0]) * outputs // int(own.shape[0])
    return outputs
