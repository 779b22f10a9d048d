"""Threat models: a norm with its eps, which never travel apart."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from audit.core.errors import UsageError, unknown_name
from audit.core.seeding import Generators
from audit.core.threat_format import NORMS, format_threat
from audit.core.threat_format import Norm as Norm
from audit.core.types import Images

TOLERANCE = 1e-6
"""Relative and absolute slack of `allows`: what float32 rounding of a sum of squares can add."""

_ROWS = 256
"""Images measured at a time: their float64 copies need not all stand in memory at once."""


@dataclass(frozen=True)
class ThreatModel:
    """What an adversary may do: any change of norm at most `eps`, the image staying in [0, 1].

    `norm` is linf, l2 or l1, over all pixels and channels of one image; `eps` >= 0 in units of the pixel
    range [0, 1], and at most 1 for linf. Raises UsageError for anything else.
    """

    norm: Norm
    eps: float

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise unknown_name("norm", str(self.norm), NORMS)
        if not (math.isfinite(self.eps) and self.eps >= 0 and (self.norm != "linf" or self.eps <= 1)):
            bounds = "[0, 1]" if self.norm == "linf" else "[0, inf)"
            raise UsageError(
                f"eps {self.eps!r} is outside {bounds} for {self.norm}: pixels are in [0, 1], so write 8/255, not 8."
            )

    def __str__(self) -> str:
        return format_threat(self.norm, self.eps)

    def distance(self, images: Images, origin: Images) -> Tensor:
        """The norm of each difference, float64 (N,)."""
        parts = zip(torch.split(images, _ROWS), torch.split(origin, _ROWS), strict=True)
        return torch.cat([norms(image.double() - clean.double(), self.norm) for image, clean in parts])

    def allows(self, images: Images, origin: Images) -> Tensor:
        """Whether each image lies in the ball around its origin and in the box, bool (N,)."""
        in_ball = self.distance(images, origin) <= self.eps * (1 + TOLERANCE) + TOLERANCE
        flat = images.flatten(1)
        return in_ball & (flat >= 0).all(1) & (flat <= 1).all(1)

    def project(self, images: Images, origin: Images) -> Images:
        """The nearest images in the ball; and in the box: exactly for linf, by clamping after it else."""
        return self.project_perturbation(images - origin).add_(origin).clamp_(0, 1)

    def project_perturbation(self, delta: Images) -> Images:
        """The nearest perturbations of norm at most eps."""
        if self.norm == "linf":
            return delta.clamp(-self.eps, self.eps)
        if self.norm == "l2":
            size = norms(delta, "l2").clamp(min=1e-12)
            return delta * (self.eps / size).clamp(max=1).view(-1, 1, 1, 1)
        return _project_l1(delta, self.eps)

    def random_start(self, origin: Images, generators: Generators) -> Images:
        """A point uniform in the ball around each origin, then clamped to the box."""
        shape = origin.shape[1:]
        if self.norm == "linf":
            delta = generators.uniform(*shape).mul_(2).sub_(1).mul_(self.eps)
        else:
            size = math.prod(shape)
            direction = _random_direction(generators.fork(0), self.norm, shape)
            radius = generators.fork(1).uniform(1).pow(1 / size) * self.eps
            delta = direction * radius.view(-1, 1, 1, 1)
        return (origin + delta.to(origin.dtype)).clamp_(0, 1)


def norms(delta: Images, norm: Norm) -> Tensor:
    """The norm of each perturbation over all its pixels and channels, (N,)."""
    order = {"linf": math.inf, "l2": 2, "l1": 1}[norm]
    size: Tensor = torch.linalg.vector_norm(delta.flatten(1), ord=order, dim=1)
    return size


def _random_direction(generators: Generators, norm: Norm, shape: torch.Size) -> Tensor:
    if norm == "l2":
        sample = generators.normal(*shape)
    else:
        sample = -(1 - generators.fork(0).uniform(*shape)).log() * generators.fork(1).rademacher(*shape)
    return sample / norms(sample, norm).clamp(min=1e-12).view(-1, 1, 1, 1)


def _project_l1(delta: Images, eps: float) -> Images:
    """Soft-threshold each row (Duchi et al. 2008, "Efficient projections onto the l1-ball")."""
    flat = delta.flatten(1)
    descending = flat.abs().sort(dim=1, descending=True).values
    count = torch.arange(1, flat.shape[1] + 1, device=flat.device, dtype=flat.dtype)
    excess = (descending.cumsum(1) - eps) / count
    active = (descending > excess).sum(1, keepdim=True).clamp(min=1)
    threshold = excess.gather(1, active - 1).clamp(min=0)
    return (flat.sign() * (flat.abs() - threshold).clamp(min=0)).view_as(delta)
