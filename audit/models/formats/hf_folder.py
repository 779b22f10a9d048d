"""Hugging Face image-classification folders: config.json and weights as data, run by transformers without its hub.

Only bytes that were inspected reach transformers: the configuration as a checked dictionary, the weights as tensors.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from audit.core.errors import ModelError, SetupError, UntrustedError, one_line
from audit.core.note import note
from audit.models.formats.hf_config import (
    PLAIN_PICKLE,
    PREFIX,
    configuration,
    folder_of,
    read_preprocessing,
    weight_files,
)
from audit.models.formats.safetensors_file import safetensors
from audit.models.formats.timm_folder import read_timm_config
from audit.models.formats.torch_checkpoint import torch_save
from audit.models.loaded import CheckpointContent

_NOT_PLAIN = frozenset({"perceiver", "imagegpt", "shieldgemma2"})
"""Not from an image's pixels."""
_WRAPPED = "timm_wrapper"
"""A net of timm's that transformers saved, with its own names of the weights."""


def read_hf_folder(weights: str) -> CheckpointContent:
    """The model of hf:FOLDER, its weights in safetensors or as plain data in a pickle.

    Raises UntrustedError for pickles and code of its own, SetupError without the extra `hf`, and ModelError when the
    files are damaged or do not belong together.

    Args:
        weights: hf:FOLDER.
    """
    folder = folder_of(weights)
    config = configuration(folder)
    _require_transformers(weights, folder, config)
    preprocessing = read_preprocessing(weights)
    module = HfModule(build_transformers(folder, config, CLASSIFIERS), bgr=preprocessing.bgr)
    runs = note(
        "model_transformers",
        "{name} runs in transformers ({kind}); its logits are used as they are.",
        name=folder.name,
        kind=str(config["model_type"]),
    )
    return CheckpointContent(module=module, notes=(runs, *preprocessing.notes))


@dataclass(frozen=True)
class HfTask:
    """What models of transformers are made for.

    Attributes:
        table: The table of their classes in transformers, by model_type.
        what: One of them, in words.
    """

    table: str
    what: str


CLASSIFIERS = HfTask("MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES", "an image classifier")
HF_DETECTORS = HfTask("MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES", "an object detector")


def build_transformers(folder: Path, config: dict[str, Any], task: HfTask) -> nn.Module:
    """The model of a folder in eval mode, with the folder's weights.

    Args:
        folder: The folder.
        config: Its checked config.json.
        task: What it is to be made for.

    Raises:
        SetupError: Without the extra `hf`.
        ModelError: It is made for something else, or weights and configuration do not belong together.
    """
    state = _state(weight_files(folder))
    transformers = _transformers(folder.name)
    with quiet_transformers(transformers):
        return _built(transformers, folder.name, config, state, task)


def _require_transformers(weights: str, folder: Path, config: dict[str, Any]) -> None:
    """Raises ModelError for a folder of timm, with the flags that audit its weights; SetupError without timm."""
    timm = read_timm_config(config)
    if timm is not None and str(config.get("model_type")) in ("None", _WRAPPED):
        file = next((name for name in ("model.safetensors", "pytorch_model.bin") if (folder / name).is_file()), "FILE")
        path = f"{weights.removeprefix(PREFIX).rstrip('/')}/{file}"
        raise ModelError(f"{folder.name} is a folder of timm, not of transformers; give {timm.flags(path)}.")
    if config.get("model_type") == _WRAPPED:
        try:
            import_module("timm")
        except ImportError as fault:
            raise SetupError(f"{folder.name} needs timm; install it with pip install 'audit[timm]'.") from fault


class HfModule(nn.Module):
    """A transformers classifier as a torch module: images (N, C, H, W) in, logits (N, classes) out."""

    def __init__(self, model: nn.Module, *, bgr: bool) -> None:
        super().__init__()
        self.model = model
        self.bgr = bgr

    def forward(self, images: Tensor) -> Any:
        """Logits of normalised images.

        Args:
            images: Float32 (N, C, H, W).

        Returns:
            (N, classes).
        """
        outputs = self.model(pixel_values=images.flip(1) if self.bgr else images)
        return getattr(outputs, "logits", outputs)  # where there are none, the reader of outputs looks for the scores


def _state(files: Sequence[Path]) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for file in files:
        content = _plain_pickle(file) if file.name == PLAIN_PICKLE else safetensors(file)
        state |= content.state or {}
    return state


def _plain_pickle(file: Path) -> CheckpointContent:
    """What torch reads of a pickle as data; one that asks for code is refused, whoever trusts it."""
    try:
        return torch_save(file, ())
    except UntrustedError as fault:
        raise UntrustedError(
            f"{file.parent.name} holds its weights as {file.name}, a pickle that is more than tensors, which is code; "
            "model.safetensors was expected. Save it again with save_pretrained where you trust it."
        ) from fault


def _transformers(name: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return import_module("transformers")
    except ImportError as fault:
        raise SetupError(f"hf:{name} needs transformers; install it with pip install 'audit[hf]'.") from fault


def _built(transformers: Any, name: str, config: dict[str, Any], state: dict[str, Tensor], task: HfTask) -> nn.Module:
    kind, settings = _class_of(transformers, name, config, task)
    try:
        # Eager attention has gradients of every order; others may be fetched kernels.
        options = {"attn_implementation": "eager", "dtype": torch.float32, "ignore_mismatched_sizes": True}
        model, report = kind.from_pretrained(
            None, config=settings, state_dict=state, output_loading_info=True, **options
        )
    except Exception as fault:  # each architecture raises its own
        raise ModelError(f"{name} cannot be built by transformers ({one_line(fault)}); save it again.") from fault
    for problem in ("mismatched", "missing", "unexpected"):
        keys = sorted(key if isinstance(key, str) else key[0] for key in report[f"{problem}_keys"])
        if keys:
            raise ModelError(
                f"{name}: the weights do not fit config.json ({len(keys)} {problem}, {keys[0]} the first). Save both "
                "again with save_pretrained."
            )
    return model.eval()  # type: ignore[no-any-return]


def _class_of(transformers: Any, name: str, config: dict[str, Any], task: HfTask) -> tuple[Any, Any]:
    """The class that makes the model, and its configuration."""
    known = getattr(import_module("transformers.models.auto.modeling_auto"), task.table)
    model_type = str(config.get("model_type"))
    if model_type not in known or model_type in _NOT_PLAIN:
        kinds = ", ".join(sorted(set(known) - _NOT_PLAIN))
        raise ModelError(f"{name} is of model_type {model_type!r}; {task.what} was expected: one of {kinds}.")
    names = known[model_type]
    names = names if isinstance(names, tuple) else (names,)
    named = [name for name in config.get("architectures") or () if name in names]
    try:
        settings = transformers.CONFIG_MAPPING[model_type].from_dict(config)
    except Exception as fault:  # validators of every field
        raise ModelError(f"{name}/config.json is no {model_type} configuration ({one_line(fault)}).") from fault
    return getattr(transformers, (named or names)[0]), settings


@contextmanager
def quiet_transformers(transformers: Any) -> Iterator[None]:
    """A block in which transformers draws no progress bars and logs no advice; what matters is raised or noted here.

    Args:
        transformers: The package.
    """
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
