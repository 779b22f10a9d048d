"""Where the classifiers of `classifiers.py` come from: their names, and each with random weights."""

from __future__ import annotations

import contextlib
import importlib
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from audit.config import ModelConfig
from audit.models.architecture import build
from audit.models.architecture_detection import timm_sizes
from audit.models.load import load_model
from audit.models.loaded import LoadedModel

LIBRARIES = ("torchvision", "transformers", "timm")
CLASSES = 5
SIZES = (64, 96, 128, 160, 192, 224, 240, 256, 288, 299, 320, 384)
"""Sides of images, the smallest that runs is taken."""
_TINY: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 64,
    "patch_size": 8,
}
_COLUMN = ("hidden_size", "num_hidden_layers", "num_attention_heads")
"""Of transformers' configurations, where one number stands for all layers of the net; others are built as they come."""
_SMALL: dict[str, dict[str, Any]] = {
    "EfficientNetForImageClassification": {"width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280},
    "HieraForImageClassification": {"embed_dim": 24, "depths": [1, 1, 1, 1]},
    "ImageGPTForImageClassification": {"n_embd": 32, "n_layer": 2, "n_head": 2},
}
"""Of transformers' configurations that are no plain columns of layers and large by default."""
_TOO_LARGE = 200e6
"""Bytes."""


_NOT_IN_TRAINING = (RuntimeError, ValueError, TypeError, AssertionError, NotImplementedError)
"""What nets raise that do not train at such a size."""


class TooLarge(Exception):
    """The weights take more than 200 MB."""


def names_of(library: str, *, every: bool = False) -> list[str]:
    """The classifiers of a library: of timm's the smallest of each module, unless every size is wanted."""
    if library == "torchvision":
        models = importlib.import_module("torchvision.models")
        return list(models.list_models(module=models))
    if library == "transformers":
        mapping = importlib.import_module("transformers.models.auto.modeling_auto")
        named = mapping.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES.values()
        return [name for names in named for name in ([names] if isinstance(names, str) else names)]
    timm = importlib.import_module("timm")
    if every:
        return list(timm.list_models())
    sizes = timm_sizes()
    families = [timm.list_models(module=module) for module in timm.list_modules()]
    smallest = [min(family, key=lambda name: sizes.get(name, float("inf"))) for family in families if family]
    return sorted(smallest, key=lambda name: sizes.get(name, float("inf")))


def sides(library: str, name: str) -> tuple[int, ...]:
    """The sides of image to try."""
    if library == "transformers":
        return (64, 224, 256)
    if library == "timm":
        pretrained = importlib.import_module("timm.models").get_pretrained_cfg(name)
        if pretrained is not None and pretrained.fixed_input_size:
            return (pretrained.input_size[-1],)
    return SIZES


def built(library: str, name: str, side: int) -> nn.Module:
    """The plain net with random weights, none of them constant: a head of zeros has nothing to explain."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if library == "transformers":
            module = _from_transformers(name)
        else:
            module = build(f"{library}:{name}", classes=CLASSES, input_shape=(3, side, side), seed=0)
    if sum(p.numel() * p.element_size() for p in module.parameters()) > _TOO_LARGE:
        raise TooLarge
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.is_floating_point() and parameter.numel() > 1 and float(parameter.std()) == 0:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    _settle(module, side)
    return module.eval()


def _settle(module: nn.Module, side: int) -> None:
    """Batch norm's statistics from noise: at 0 and 1, those of new nets, activations vanish or explode in depth."""
    norms = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = None
        layer.reset_running_stats()
    with torch.no_grad(), contextlib.suppress(*_NOT_IN_TRAINING):
        module.train()(torch.rand(4, 3, side, side))
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum


def loaded(library: str, name: str, module: nn.Module, side: int) -> LoadedModel:
    """The net as this package reads it from files that hold its weights."""
    with tempfile.TemporaryDirectory() as folder:
        if library == "transformers":
            module.save_pretrained(folder)
            config = ModelConfig(weights=f"hf:{folder}")
        else:
            torch.save(module.state_dict(), Path(folder) / "weights.pt")
            config = ModelConfig(weights=str(Path(folder) / "weights.pt"), architecture=f"{library}:{name}")
        names = [str(index) for index in range(CLASSES)]
        return load_model(config, classes=names, input_shape=(3, side, side), device="cpu", seed=0)


def _from_transformers(name: str) -> nn.Module:
    transformers = importlib.import_module("transformers")
    kind = getattr(transformers, name)
    config, small = kind.config_class(), _SMALL.get(name, {})
    if not small and all(isinstance(getattr(config, key, None), int) for key in _COLUMN):
        small = {key: value for key, value in _TINY.items() if isinstance(getattr(config, key, None), int)}
    elif hasattr(config, "vision_config"):
        small = {"vision_config": _TINY, "text_config": {"num_hidden_layers": 1, "vocab_size": 99}}
    return kind(kind.config_class(**small, num_labels=CLASSES))  # type: ignore[no-any-return]
