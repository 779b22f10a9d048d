"""Keras 3 .keras archives, run by Keras on torch."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from audit.config import TrustConfig
from audit.core.errors import ModelError, SetupError, UntrustedError, one_line
from audit.core.note import Note, note
from audit.core.registry import model_format
from audit.models.files import check_trusted, read_whole
from audit.models.formats.keras_config import code_in
from audit.models.loaded import CheckpointContent, TrustedFile, channels_last_note

_LARGEST_OF_UNIT = 2.0
"""Means and standard deviations beyond are those of pixels of 0 to 255."""


@model_format(suffixes=(".keras",), reference="https://keras.io/guides/serialization_and_saving")
def keras(path: Path, trust: Sequence[TrustConfig]) -> CheckpointContent:
    """The model of a .keras archive, run by Keras on torch; code in it needs trust.

    Raises UntrustedError when it asks for more than known layers and is not trusted, SetupError without the extra
    `keras`, and ModelError when it is damaged.

    Args:
        path: The file.
        trust: The files whose code may run.
    """
    body = read_whole(path)
    library = _keras_on_torch(path.name)
    code = code_in(body, path.name)
    trusted: tuple[TrustedFile, ...] = ()
    if code:
        reason = f"asks Keras for more than known layers ({', '.join(code[:6])})"
        trusted = (TrustedFile(path.name, check_trusted(path, body, trust, reason=reason)),)
    model = _load(library, body, path.name, safe=not code)
    module = KerasModule(model)
    return CheckpointContent(module=module, notes=tuple(_notes(module, path.name)), trusted=trusted)


@model_format(suffixes=(".h5", ".hdf5"))
def keras_hdf5(path: Path, _trust: Sequence[TrustConfig]) -> CheckpointContent:
    """Keras' old HDF5 files, which can hold code: always refused.

    Args:
        path: The file.

    Raises:
        UntrustedError: Always; the message says how to convert the file.
    """
    raise UntrustedError(
        f"{path.name} is in Keras' old HDF5 format, which can hold code and is not loaded. Open it where you "
        "trust it and save it again: keras.models.load_model(...).save('model.keras')."
    )


class KerasModule(nn.Module):
    """A Keras model as a torch module: images (N, C, H, W) in, scores (N, classes) out, in inference mode."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        shape = tuple(model.input_shape)
        self.channels_last = shape[1] not in (1, 3) or shape[-1] in (1, 3)
        self.scale = 255.0 if _rescales(model) else 1.0

    def forward(self, images: Tensor) -> Tensor:
        """Scores of images.

        Args:
            images: Float32 (N, C, H, W) in [0, 1].

        Returns:
            (N, classes).
        """
        inputs = images.permute(0, 2, 3, 1) if self.channels_last else images
        return self.model(inputs * self.scale, training=False)  # type: ignore[no-any-return]


def _keras_on_torch(name: str) -> Any:
    try:
        library = sys.modules.get("keras") or _imported()
    except ImportError as fault:
        raise SetupError(f"{name} needs Keras 3; install it with pip install 'audit[keras]'.") from fault
    if library.backend.backend() != "torch":
        raise SetupError(
            f"{name} needs Keras on torch, and Keras was imported on {library.backend.backend()}; set "
            "KERAS_BACKEND=torch."
        )
    return library


def _imported() -> Any:
    """Keras on torch, with its own defaults: it would read a configuration from the user's home, or write one there."""
    with tempfile.TemporaryDirectory(prefix="audit-keras-") as home:
        before = os.environ.get("KERAS_HOME")
        os.environ |= {"KERAS_BACKEND": "torch", "KERAS_HOME": home}
        try:
            return import_module("keras")
        finally:
            del os.environ["KERAS_HOME"]
            if before is not None:
                os.environ["KERAS_HOME"] = before


def _load(library: Any, body: bytes, name: str, *, safe: bool) -> Any:
    """From exactly the bytes that were inspected; then again without randomness, so that weights are named alike in
    every copy."""
    with tempfile.TemporaryDirectory(prefix="audit-keras-") as folder:
        inspected, plain = Path(folder) / "inspected.keras", Path(folder) / "plain.keras"
        inspected.write_bytes(body)
        try:
            model = library.models.load_model(inspected, compile=False, safe_mode=safe)
            _require_image_input(model, name)
            if not safe:
                return model  # code has layers that only its own file can make again
            _without_randomness(library, model).save(plain)
            return library.models.load_model(plain, compile=False, safe_mode=safe)
        except ModelError:
            raise
        except Exception as fault:  # each layer raises its own
            raise ModelError(
                f"{name} does not load in Keras ({one_line(fault)}); save it again with Keras 3."
            ) from fault


def _require_image_input(model: Any, name: str) -> None:
    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4:
        raise ModelError(
            f"{name} takes inputs of shape {shape}, where one image, (height, width, channels), was expected."
        )


def _without_randomness(library: Any, model: Any) -> Any:
    """The same function of an image: dropout and augmentation do nothing in inference, but they carry seeds that
    differ from one loading to the next."""

    def plain(layer: Any) -> Any:
        config = layer.get_config()
        if type(layer).__name__.startswith(("Random", "Gaussian")) or type(layer).__name__.endswith("Dropout"):
            return library.layers.Identity(name=config["name"])
        off = {key: 0.0 for key in ("dropout", "recurrent_dropout") if config.get(key)}
        return type(layer).from_config(config | off)

    twin = library.models.clone_model(model, clone_function=plain, recursive=True)
    twin.set_weights(model.get_weights())
    return twin


def _rescales(model: Any) -> bool:
    """Whether the first layer that scales its input divides by about 255, or was fitted to pixels of 0 to 255."""
    for layer in _flat(model):
        if type(layer).__name__ == "Rescaling" and _is_number(layer.scale):
            return float(layer.scale) < 1 / 50
        if type(layer).__name__ == "Normalization" and not layer.invert:
            return bool(abs(layer.mean).max() > _LARGEST_OF_UNIT or layer.variance.max() > _LARGEST_OF_UNIT**2)
        if type(layer).__name__ in ("TrueDivide", "Divide", "Subtract") and (number := _constant_of(layer)) is not None:
            return abs(number) > _LARGEST_OF_UNIT
        if getattr(layer, "weights", ()):
            return False
    return False


def _constant_of(operation: Any) -> float | None:
    """The number that an operation without layers takes beside its tensor; None where it takes none."""
    numbers = [value for node in operation._inbound_nodes for value in node.arguments.args if _is_number(value)]
    return float(numbers[0]) if len(numbers) == 1 else None


def _flat(model: Any) -> Iterator[Any]:
    for layer in getattr(model, "operations", model.layers):
        if hasattr(layer, "layers"):
            yield from _flat(layer)
        else:
            yield layer


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _notes(module: KerasModule, name: str) -> Iterator[Note]:
    yield note("model_keras", "{name} runs in Keras on torch; gradients are torch's.", name=name)
    if module.channels_last:
        yield channels_last_note(name)
    if module.scale != 1:
        yield note(
            "model_rescales",
            "{name} rescales pixels of 0 to 255 itself: images in [0, 1] are multiplied by 255 for it.",
            name=name,
        )
