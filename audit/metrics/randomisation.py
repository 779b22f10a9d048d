"""Model randomisation (arXiv:1810.03292): a map that does not change when the weights do explains something else."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import nn

from audit.core.seeding import torch_generator
from audit.core.types import Attributions
from audit.models.module_copy import copy_module
from audit.models.under_test import ModelUnderTest


def layers_with_weights(net: nn.Module) -> tuple[str, ...]:
    """The names of the layers that hold parameters of their own, in the order of the net's definition.

    Args:
        net: Any net.
    """
    return tuple(name for name, layer in net.named_modules() if list(layer.parameters(recurse=False)))


def randomised(model: ModelUnderTest, layers: tuple[str, ...], *, seed: int) -> ModelUnderTest:
    """A twin of `model` whose named layers' parameters are drawn anew: normal, with each tensor's own mean and spread.

    Keeping the spread keeps the signal alive, so that what changes is the knowledge and not the scale. The twin's
    passes count as the model's.

    Args:
        model: The model, which stays as it is.
        layers: Names of layers of its net.
        seed: Of the new weights.
    """
    net = copy_module(model.net)
    for name in layers:
        for key, parameter in net.get_submodule(name).named_parameters(recurse=False):
            generator = torch_generator("randomisation", seed, name, key)
            spread = parameter.std(correction=0) if parameter.numel() > 1 else parameter.abs().max()
            normal = torch.randn(parameter.shape, generator=generator, device="cpu").to(parameter.device)
            parameter.copy_(parameter.mean() + spread * normal)
    twin = ModelUnderTest(
        net, classes=model.classes, input_shape=model.input_shape, mean=model.mean, std=model.std, device=model.device
    )
    twin.layout.batch_size = model.layout.batch_size
    twin.module.meter = model.meter
    return twin


def bottom_up(
    model: ModelUnderTest, explain: Callable[[ModelUnderTest], Attributions], *, seed: int, stages: int = 4
) -> Iterator[tuple[str, Attributions]]:
    """`(name of the last layer randomised, maps)` as weights are drawn anew from the input upward, in at most `stages`.

    Bottom-up, because top-down keeps the early layers, whose edges alone make maps look alike (arXiv:2401.06465).

    Args:
        model: The model, which stays as it is.
        explain: Gives the maps (N, C or 1, H, W) of a model.
        seed: Of the new weights.
        stages: How many groups of layers are added one after the other, at most.
    """
    layers = layers_with_weights(model.net)
    cuts = sorted({round((stage + 1) * len(layers) / stages) for stage in range(stages)} - {0})
    for cut in cuts:
        yield layers[cut - 1], explain(randomised(model, layers[:cut], seed=seed))
