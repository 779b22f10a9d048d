"""Small nets that between them use every operation that bounds have a rule for."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SHAPE = (2, 6, 6)
Forward = Callable[["Small", Tensor], Tensor]


class Small(nn.Module):
    """A convolution, a forward of its own, a dense layer."""

    def __init__(self, forward: Forward) -> None:
        super().__init__()
        self.own = forward
        self.conv, self.narrow = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, stride=2, groups=2, dilation=1)
        self.up = nn.ConvTranspose2d(4, 2, 3, stride=2, padding=1, output_padding=1)
        self.norm, self.slope = nn.BatchNorm2d(4), nn.PReLU(4, init=0.3)
        self.head = nn.LazyLinear(3)

    def forward(self, images: Tensor) -> Tensor:
        features = self.own(self, images)
        logits: Tensor = self.head(features.flatten(1))
        return logits


def in_place(net: Small, x: Tensor) -> Tensor:
    x = net.conv(x)
    x.relu_()
    x += net.norm(x)
    x.mul_(0.5).sub_(0.1)
    return F.relu(x, inplace=True)


def parts(net: Small, x: Tensor) -> Tensor:
    x = net.conv(x).relu()
    first, second = x.chunk(2, 1)
    stacked = torch.stack([first, second], 2).flatten(1, 2)
    padded = F.pad(stacked, (1, 0, 1, 0))
    both = torch.cat([padded[:, :, 1:, 1:], x, torch.full_like(first, 0.5)], 1)
    return both.permute(0, 2, 3, 1).mean((1, 2)) + both.transpose(2, 3).sum((2, 3)) / 30


def shapes(net: Small, x: Tensor) -> Tensor:
    x = F.interpolate(net.up(net.narrow(net.conv(x).relu()).relu()), scale_factor=2)
    x = F.pixel_unshuffle(x, 2)
    return F.avg_pool2d(x.flip(3).roll(1, 2), 2) - F.adaptive_avg_pool2d(x, (2, 2)).repeat(1, 1, 1, 1)


NETS: dict[str, Forward] = {
    "relu": lambda n, x: n.conv(x).relu(),
    "in place": in_place,
    "parts": parts,
    "shapes": shapes,
    "two layers": lambda n, x: n.narrow(n.norm(n.conv(x)).relu()).relu(),
    "max pool": lambda n, x: F.max_pool2d(n.conv(x), 2).relu(),
    "overlapping pool": lambda n, x: F.max_pool2d(n.conv(x).relu(), 3, 2, padding=1, ceil_mode=True),
    "dilated pool": lambda n, x: F.max_pool2d(n.conv(x), (2, 3), 1, dilation=(2, 1)),
    "pool with a rest": lambda n, x: F.max_pool2d(n.conv(x), 4),
    "leaky": lambda n, x: F.leaky_relu(n.conv(x), 0.2),
    "prelu": lambda n, x: n.slope(n.conv(x)),
    "sigmoid": lambda n, x: n.narrow(n.conv(x * 4 - 2).sigmoid()).sigmoid(),
    "tanh": lambda n, x: n.narrow(torch.tanh(3 * n.conv(x))).tanh(),
    "softplus": lambda n, x: F.softplus(n.conv(x), beta=3),
    "elu": lambda n, x: F.elu(2 * n.conv(x), 0.7),
    "clamps": lambda n, x: F.hardtanh(F.relu6(4 * n.conv(x)) - 1, -0.5, 0.5) + n.conv(x).clamp(min=0.1),
    "hard sigmoid": lambda n, x: F.relu6(n.conv(x) + 3) / 6,
    "absolute": lambda n, x: n.conv(x).abs() + (1 - x[:, :1]),
    "maximum": lambda n, x: torch.maximum(n.conv(x), -n.conv(x.flip(2))) - torch.minimum(n.conv(x), n.conv(x).mul(2)),
    "residual": lambda n, x: (n.norm(n.conv(x)) + F.pad(x, (0, 0, 0, 0, 0, 2))).relu(),
    "softmax": lambda n, x: n.conv(x).relu(),
    "clamped input": lambda n, x: n.conv(x.clamp(0.2, 0.8)).relu(),
}


def small_net(name: str) -> nn.Module:
    """One of them, with fixed weights, in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        net = Small(NETS[name])
        net(torch.rand(2, *SHAPE))
        with torch.no_grad():
            net.norm.running_mean.uniform_(-0.5, 0.5)
            net.norm.running_var.uniform_(0.5, 2)
            net.head.weight.mul_(3)
    whole = nn.Sequential(net, nn.Softmax(1)) if name == "softmax" else net
    return whole.eval()
