"""The convolutional nets of the Keras tutorials: modules throughout, so that any hook can find its layer."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from audit.core.errors import ModelError
from audit.models.loaded import InputShape


def cnn_8(classes: int, input_shape: InputShape) -> nn.Module:
    """Three padded 3x3 convolutions (32, 64, 96), the last pooled, dense 64: 173,226 weights on 8x8 grey.

    Args:
        classes: Number of outputs.
        input_shape: (C, H, W) of the images. Raises ModelError when they are too small.
    """
    return _stack("cnn-8", classes, input_shape, widths=(32, 64, 96), pooled=(False, False, True), dense=64, padding=1)


def cnn_28(classes: int, input_shape: InputShape) -> nn.Module:
    """Two 3x3 convolutions (32, 64) with pooling, dense 64: the Keras MNIST net, 121,930 weights on 28x28 grey.

    Args:
        classes: Number of outputs.
        input_shape: (C, H, W) of the images. Raises ModelError when they are too small.
    """
    return _stack("cnn-28", classes, input_shape, widths=(32, 64), pooled=(True, True), dense=64)


def cnn_32(classes: int, input_shape: InputShape) -> nn.Module:
    """Three 3x3 convolutions (32, 64, 64), two pooled, dense 64: the Keras CIFAR-10 net, 122,570 weights.

    Args:
        classes: Number of outputs.
        input_shape: (C, H, W) of the images. Raises ModelError when they are too small.
    """
    return _stack("cnn-32", classes, input_shape, widths=(32, 64, 64), pooled=(True, True, False), dense=64)


def cnn_150(classes: int, input_shape: InputShape) -> nn.Module:
    """Three pooled 3x3 convolutions (32, 64, 128), dense 1024: the Keras net for 150x150 photographs.

    Args:
        classes: Number of outputs.
        input_shape: (C, H, W) of the images. Raises ModelError when they are too small.
    """
    return _stack("cnn-150", classes, input_shape, widths=(32, 64, 128), pooled=(True, True, True), dense=1024)


def _stack(
    name: str,
    classes: int,
    input_shape: InputShape,
    *,
    widths: Sequence[int],
    pooled: Sequence[bool],
    dense: int,
    padding: int = 0,
) -> nn.Sequential:
    channels, height, width = input_shape
    layers: list[tuple[str, nn.Module]] = []
    for number, (wide, pool) in enumerate(zip(widths, pooled, strict=True), start=1):
        layers.append((f"conv{number}", nn.Conv2d(channels, wide, 3, padding=padding)))
        if pool:  # Before the ReLU: the maximum commutes with it, and it then has a quarter of the work.
            layers.append((f"pool{number}", nn.MaxPool2d(2)))
        layers.append((f"relu{number}", nn.ReLU()))
        channels, height, width = wide, *(_shrink(size + 2 * padding, pool) for size in (height, width))
    if min(height, width) < 1:
        raise ModelError(
            f"Images of {input_shape[1]}x{input_shape[2]} pixels are too small for {name}: nothing is left after its "
            "convolutions. Enlarge them with --image-size, or choose a smaller architecture."
        )
    layers += [("flatten", nn.Flatten()), ("dense", nn.Linear(channels * height * width, dense))]
    layers += [("relu", nn.ReLU()), ("head", nn.Linear(dense, classes))]
    return nn.Sequential(OrderedDict(layers))


def _shrink(size: int, pool: bool) -> int:
    size -= 2
    return size // 2 if pool else size
