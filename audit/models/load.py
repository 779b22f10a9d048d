"""Loading of models: weights as data by default, code only when it is trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from audit.config import ModelConfig, TrustConfig
from audit.core.errors import ModelError
from audit.core.note import note
from audit.core.registry import methods
from audit.models.architecture import build, default_for
from audit.models.architecture_detection import infer_architecture
from audit.models.checkpoint_entries import with_entry
from audit.models.files import basename, is_code, require_file
from audit.models.formats.hf_config import is_folder
from audit.models.formats.user_code import build_from_code
from audit.models.identity import model_identity, with_companions
from audit.models.input_scaling import scaling_notes
from audit.models.loaded import CheckpointContent, InputShape, LoadedModel, TrustedFile
from audit.models.outputs import OutputChoice, choose_outputs
from audit.models.own_weights import own_module
from audit.models.resize_layers import match_state_dict
from audit.models.state_dict import LoadedState, load_matching


def load_model(
    config: ModelConfig, *, classes: Sequence[str], input_shape: InputShape, device: torch.device | str, seed: int
) -> LoadedModel:
    """Load the model that a configuration names.

    Raises UntrustedError for code that is not trusted, ModelError naming the first keys that do not fit, and UsageError
    for an unknown architecture.

    Args:
        config: The [model] table; without weights, fresh ones are drawn.
        classes: Names in the order of the outputs.
        input_shape: (C, H, W) of the images.
        device: Where the module is put.
        seed: Root of fresh weights.

    Returns:
        The module in eval mode, with where it came from.
    """
    names = tuple(classes)
    content = _content(config, len(names), input_shape, seed)
    architecture = _resolved(config, content, len(names), input_shape)
    module, trusted, state = _assemble(config, architecture, content, len(names), input_shape, seed)
    choose_outputs(module, OutputChoice(config.outputs, config.output_entry))
    identity = model_identity(config, classes=names, input_shape=input_shape, seed=seed)
    module.to(device)  # a user's `to` or `eval` need not return the module
    module.eval()
    return LoadedModel(
        module=module,
        identity=with_companions(identity, content.companions),
        origin=_origin(config.weights, "" if config.weights and content.module is not None else architecture),
        notes=content.notes + state.notes,
        trusted=tuple(file.row() for file in (*content.trusted, *trusted)),
        whole=content.module is not None,
        architecture=architecture,
        cut=content.cut,
        normalisation=state.normalisation,
    )


def _content(config: ModelConfig, classes: int, input_shape: InputShape, seed: int) -> CheckpointContent:
    """What the weights' file holds, or the module that a function returns with weights of its own."""
    if config.weights:
        return read_weights(config.weights, config.trust, config.weights_entry)
    if config.own_weights:
        return own_module(config, classes=classes, input_shape=input_shape, seed=seed)
    return CheckpointContent()


def with_own_normalisation(loaded: LoadedModel, config: ModelConfig) -> tuple[LoadedModel, ModelConfig]:
    """The normalisation that a file keeps beside its weights, applied where the configuration names none.

    Args:
        loaded: The model.
        config: The [model] table.

    Returns:
        The model with a note, and the table with mean and std.
    """
    if not loaded.normalisation:
        return loaded, config
    mean, std = loaded.normalisation
    named = config.mean is not None or config.std is not None
    values = {"mean": _numbers(mean), "std": _numbers(std)}
    if named:
        said = note(
            "model_own_normalisation_off",
            "The file keeps a normalisation (mean {mean}, std {std}) beside its weights; the one given by --mean and "
            "--std is applied in its place.",
            **values,
        )
    else:
        said = note(
            "model_own_normalisation",
            "The normalisation that the file keeps beside its weights is applied to images in [0, 1]: mean {mean}, std "
            "{std}.",
            **values,
        )
        config = config.model_copy(update={"mean": mean, "std": std})
    return replace(loaded, notes=(*loaded.notes, said)), config


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def read_weights(weights: str, trust: Sequence[TrustConfig], entry: str = "") -> CheckpointContent:
    """Read a checkpoint. Raises ModelError when it cannot be read, UntrustedError when it is code.

    Args:
        weights: A file's path, or hf:FOLDER.
        trust: The files whose code may run.
        entry: Which of several sets of weights; "" for that which is taken without being asked.
    """
    if not is_folder(weights):
        return read_checkpoint(Path(weights), trust, entry)
    from audit.models.formats.hf_folder import read_hf_folder

    return read_hf_folder(weights)


def read_checkpoint(path: Path, trust: Sequence[TrustConfig], entry: str = "") -> CheckpointContent:
    """Read a checkpoint file with the registered format of its suffix.

    Args:
        path: The file.
        trust: The files whose code may run. Raises UntrustedError for code in any other.
        entry: Which of several sets of weights; "" for that which is taken without being asked.

    Raises:
        ModelError: For a missing or damaged file, or an unknown suffix.
    """
    require_file(path)
    readers = {suffix: method.function for method in methods("model-format") for suffix in method.facts["suffixes"]}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        own = f" A module of your own is --architecture {path}:FUNCTION." if path.suffix == ".py" else ""
        raise ModelError(f"{path.name} is in no format known here; one of {', '.join(readers)} was expected.{own}")
    content: CheckpointContent = reader(path, trust)
    return with_entry(content, entry, path.name)


def fresh_module(
    config: ModelConfig, *, classes: int, input_shape: InputShape, seed: int
) -> tuple[nn.Module, tuple[TrustedFile, ...]]:
    """The architecture with new weights.

    Args:
        config: The [model] table.
        classes: Number of outputs.
        input_shape: (C, H, W) of the images.
        seed: Root of the weights.

    Returns:
        The module, and the code that was run to make it.
    """
    name = default_for(input_shape) if config.architecture == "auto" else config.architecture
    module, trusted = _built(name, config.trust, classes, input_shape, seed)
    module.float()  # a user's function may build it in half precision, in which small steps of training vanish
    choose_outputs(module, OutputChoice(config.outputs, config.output_entry))
    return module, trusted


def _built(
    name: str, trust: Sequence[TrustConfig], classes: int, input_shape: InputShape, seed: int
) -> tuple[nn.Module, tuple[TrustedFile, ...]]:
    if is_code(name):
        module, file = build_from_code(name, trust, classes=classes, input_shape=input_shape, seed=seed)
        return module, (file,)
    return build(name, classes=classes, input_shape=input_shape, seed=seed), ()


def _resolved(config: ModelConfig, content: CheckpointContent, classes: int, input_shape: InputShape) -> str:
    """The architecture's name, with auto told from the checkpoint where there is one."""
    if config.architecture != "auto" or content.module is not None:
        return config.architecture
    if content.state is None:
        return default_for(input_shape)
    checkpoint = basename(str(config.weights))
    entry = _prefix_entry(config, content)
    return infer_architecture(
        content.state, classes=classes, input_shape=input_shape, checkpoint=checkpoint, entry=entry
    )


def _assemble(
    config: ModelConfig, architecture: str, content: CheckpointContent, classes: int, input_shape: InputShape, seed: int
) -> tuple[nn.Module, tuple[TrustedFile, ...], LoadedState]:
    if content.module is not None:
        return content.module, (), LoadedState(())
    module, trusted = _built(architecture, config.trust, classes, input_shape, seed)
    if content.state is None:
        return module, trusted, LoadedState(())
    match_state_dict(module, content.state, cut=content.cut)
    checkpoint, entry = basename(str(config.weights)), _prefix_entry(config, content)
    loaded = load_matching(module, content.state, checkpoint=checkpoint, architecture=_short(architecture), entry=entry)
    notes = (*loaded.notes, *scaling_notes(module, content.state, classes, checkpoint))
    if config.architecture == "auto":
        fits = note(
            "model_fits",
            "{name} fits {architecture}, found from the shapes of its weights.",
            name=checkpoint,
            architecture=architecture,
        )
        notes = (*notes, fits)
    return module, trusted, replace(loaded, notes=notes)


def _prefix_entry(config: ModelConfig, content: CheckpointContent) -> str:
    """The prefix that the configuration asks for, where it is no entry of the file."""
    return "" if config.weights_entry in content.sets else config.weights_entry


def _origin(weights: str | None, architecture: str) -> str:
    name = basename(weights) if weights else ""
    return f"{name} ({_short(architecture)})" if name and architecture else name or _short(architecture)


def _short(architecture: str) -> str:
    """Without the folder of the user's file, which is nobody's business in a report."""
    return Path(architecture).name if is_code(architecture) else architecture
