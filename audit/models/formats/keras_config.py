"""What a .keras archive asks for, read from its bytes before Keras sees it: known layers only, no code, no files.

Keras' own `safe_mode` has been passed by more than once (CVE-2025-1550, CVE-2025-8747, CVE-2025-9906): a layer is
accepted here because it is known, not because it is not known to be bad.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from audit.core.errors import ModelError

LAYERS = frozenset(
    """Sequential Functional Model InputLayer Dense Flatten Reshape Permute RepeatVector Masking
    Conv1D Conv2D Conv2DTranspose SeparableConv2D DepthwiseConv2D LSTM GRU SimpleRNN Bidirectional TimeDistributed
    LSTMCell GRUCell SimpleRNNCell MaxPooling1D MaxPooling2D AveragePooling2D GlobalAveragePooling2D GlobalMaxPooling2D
    GlobalAveragePooling1D GlobalMaxPooling1D Dropout SpatialDropout2D GaussianNoise GaussianDropout AlphaDropout
    BatchNormalization LayerNormalization GroupNormalization UnitNormalization Activation ReLU LeakyReLU PReLU ELU
    Softmax Add Subtract Multiply Average Maximum Minimum Concatenate Dot ZeroPadding2D Cropping2D UpSampling2D
    Attention AdditiveAttention MultiHeadAttention ActivityRegularization Rescaling Normalization Resizing CenterCrop
    RandomFlip RandomRotation RandomZoom RandomContrast RandomTranslation RandomBrightness RandomCrop""".split()
)
OPERATIONS = frozenset(
    """Add Subtract Multiply Divide TrueDivide Negative Absolute Square Sqrt Exp Log Maximum Minimum Clip Mean Max Min
    Sum Reshape Transpose Concatenate Squeeze ExpandDims Relu Relu6 Sigmoid Silu Gelu Softmax LogSoftmax""".split()
)
"""Arithmetic that a net writes without layers, as in `inputs / 255`: each takes numbers and tensors alone."""
_VALUES = ("keras.initializers", "keras.regularizers", "keras.constraints")
_TRAINING = frozenset({"compile_config", "build_config"})
"""Read only by a training loop, which is not what is loaded here."""
_MOST = 4 << 30
_MEMBERS = 10_000


def code_in(body: bytes, name: str) -> list[str]:
    """What a .keras archive asks for beyond known layers. Raises ModelError for a damaged one.

    Args:
        body: The archive's bytes.
        name: Its file name, for errors.

    Returns:
        The names of what could run or read other files; empty when the archive is data.
    """
    config = _config(body, name)
    return sorted(set(_unknown(config)) | set(_hidden_files(body, name)))


def _config(body: bytes, name: str) -> Any:
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            entries = archive.infolist()
            if len(entries) > _MEMBERS or sum(entry.file_size for entry in entries) > _MOST:
                raise ModelError(f"{name} unpacks to more than {_MOST >> 30} GB or {_MEMBERS} files; it is not opened.")
            return json.loads(archive.read("config.json"))
    except ModelError:
        raise
    except Exception as fault:  # zipfile, zlib and json raise whatever they stumble on
        raise ModelError(f"{name} is not a whole Keras 3 archive ({fault}); save it again as .keras.") from fault


def _unknown(value: Any) -> Iterator[str]:
    """Every class that a configuration names and that is no known layer, initialiser, regulariser or constraint."""
    if isinstance(value, list):
        for entry in value:
            yield from _unknown(entry)
    if not isinstance(value, dict):
        return
    if "class_name" in value:
        module, kind = str(value.get("module")), str(value["class_name"])
        if not _is_data(module, kind, value.get("registered_name")):
            yield f"{module}.{kind}"
    for key, entry in value.items():
        if key not in _TRAINING:
            yield from _unknown(entry)


def _is_data(module: str, kind: str, registered: Any) -> bool:
    if kind == "DTypePolicy":
        return module in ("keras", "keras.dtype_policies")
    if kind == "__keras_tensor__":
        return module == "None"
    if registered not in (None, kind):
        return False
    if module in _VALUES:
        return kind.isidentifier()
    if module in ("keras.src.ops.numpy", "keras.src.ops.nn"):
        return kind in OPERATIONS
    return kind in LAYERS and module in ("keras", "keras.layers", "keras.models", "keras.src.models.functional")


def _hidden_files(body: bytes, name: str) -> Iterator[str]:
    """Links out of the archive's weights: HDF5 can read other files of the machine."""
    h5py = import_module("h5py")

    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        stored = [entry for entry in archive.namelist() if entry.endswith(".h5")]
        if any(entry.startswith("/") or ".." in entry.split("/") for entry in archive.namelist()):
            yield "a path outside the archive"
        for entry in stored:
            try:
                with h5py.File(io.BytesIO(archive.read(entry)), "r") as file:
                    yield from _links(file, h5py)
            except (OSError, RuntimeError, KeyError, ValueError) as fault:
                raise ModelError(f"{name} holds damaged weights ({fault}); save it again as .keras.") from fault


def _links(group: Any, h5py: Any) -> Iterator[str]:
    for key in group:
        link = group.get(key, getlink=True)
        if isinstance(link, h5py.ExternalLink | h5py.SoftLink):
            yield "weights linked from elsewhere"
            continue
        member = group[key]
        if isinstance(member, h5py.Group):
            yield from _links(member, h5py)
        elif member.external or member.is_virtual:
            yield "weights stored in another file"
        elif member.nbytes > _MOST:
            raise ModelError("The archive holds a tensor of over 4 GB; it is not opened.")
