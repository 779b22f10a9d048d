"""Residual nets for small images (He et al. 2016, arXiv:1512.03385, section 4.2)."""

from __future__ import annotations

from torch import nn

from audit.models.loaded import InputShape


def resnet_18_small(classes: int, input_shape: InputShape) -> nn.Module:
    """ResNet-18 with a 3x3 first convolution of stride 1 and no first pooling: for images of 28 to 64 pixels.

    Args:
        classes: Number of outputs.
        input_shape: (C, H, W) of the images.
    """
    # torchvision takes seconds to import, and most runs never ask for a net of its.
    from torchvision.models.resnet import BasicBlock, ResNet

    net: nn.Module = ResNet(BasicBlock, [2, 2, 2, 2], num_classes=classes)
    net.conv1 = nn.Conv2d(input_shape[0], 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    net.maxpool = nn.Identity()
    for layer in net.modules():
        if isinstance(layer, nn.ReLU):
            layer.inplace = False  # An attribution's hook must find the values the layer was given.
    return net
