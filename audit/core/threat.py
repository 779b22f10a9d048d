"""Threat models: a norm with its eps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from audit.core.errors import UsageError, unknown_name
from audit.core.precise import precise
from audit.core.projection import onto_l1_ball, onto_l1_ball_and_box, onto_l2_ball_and_box
from audit.core.seeding import Generators
from audit.core.threat_format import NORMS, format_threat
from audit.core.threat_format import Norm as Norm
from audit.core.types import Images

TOLERANCE = 1e-6
"""Relative and absolute slack of `allows`: what float32 rounding of a sum of squares can add."""

_JOINT = {"l2": onto_l2_ball_and_box, "l1": onto_l1_ball_and_box}
"""Norms whose ball and the box are not projected onto one after the other."""

_ROWS = 256
"""Images measured at a time, which bounds the memory of their float64 copies."""


@dataclass(frozen=True)
class ThreatModel:
    """A norm ball around each image, within the box [0, 1].

    The norm is taken over all pixels and channels of one image. l0 is no norm but is called one: it counts the values
    that differ, each channel of a pixel by itself, and its ball is not convex.

    Attributes:
        norm: "linf", "l2", "l1" or "l0".
        eps: The radius, in units of the pixel range [0, 1]; at least 0, and at most 1 for linf. For l0 the number of
            values that may differ.

    Raises:
        UsageError: When the norm is unknown or eps out of its range.
    """

    norm: Norm
    eps: float

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise unknown_name("norm", str(self.norm), NORMS)
        if not hasattr(self.eps, "__float__"):
            raise UsageError(f"eps {self.eps!r} is not a number: write 0.1 or 8 / 255.")
        if not (math.isfinite(self.eps) and self.eps >= 0 and (self.norm != "linf" or self.eps <= 1)):
            bounds = "[0, 1]" if self.norm == "linf" else "[0, inf)"
            remedy = ": pixels are in [0, 1], so write 8/255, not 8" if self.eps > 1 else ""
            raise UsageError(f"eps {self.eps!r} is outside {bounds} for {self.norm}{remedy}.")

    def __str__(self) -> str:
        return format_threat(self.norm, self.eps)

    def distance(self, images: Images, origin: Images) -> Tensor:
        """The norm of the difference between each image and its origin.

        Args:
            images: Float (N, C, H, W).
            origin: The clean images, as `images`.

        Returns:
            float64 (N,), in units of the pixel range; for l0 a number of values. On the CPU where the device has no
            float64.
        """
        parts = zip(torch.split(images, _ROWS), torch.split(origin, _ROWS), strict=True)
        return torch.cat([norms(precise(image) - precise(clean), self.norm) for image, clean in parts])

    def allows(self, images: Images, origin: Images) -> Tensor:
        """Whether each image lies in the ball around its origin, up to rounding, and in [0, 1].

        Rounding is `TOLERANCE`, and for l1 what storing n values of an image can add: 2**-25 each.

        Args:
            images: Float (N, C, H, W).
            origin: The clean images, as `images`.

        Returns:
            bool (N,).
        """
        flat = images.flatten(1)
        stored = flat.shape[1] * 2.0**-25 if self.norm == "l1" else 0.0
        in_ball = self.distance(images, origin) <= self.eps * (1 + TOLERANCE) + TOLERANCE + stored
        return in_ball.to(images.device) & (flat >= 0).all(1) & (flat <= 1).all(1)

    def project(self, images: Images, origin: Images) -> Images:
        """The nearest images in the ball and in [0, 1], exactly (for l0, of images in the box).

        Args:
            images: Float32 (N, C, H, W).
            origin: The clean images, as `images`, in [0, 1].

        Returns:
            The images, float32 (N, C, H, W) in [0, 1].
        """
        if self.norm in _JOINT:
            delta = _JOINT[self.norm]((images - origin).flatten(1), origin.flatten(1), self.eps)
            return (origin + delta.view_as(origin)).clamp_(0, 1)
        return self.project_perturbation(images - origin).add_(origin).clamp_(0, 1)

    def project_perturbation(self, delta: Images) -> Images:
        """Project perturbations onto the ball of radius eps around 0, exactly.

        Args:
            delta: Float32 (N, C, H, W).

        Returns:
            Perturbations as `delta`.
        """
        if self.norm == "linf":
            return delta.clamp(-self.eps, self.eps)
        if self.norm == "l2":
            size = norms(delta, "l2").clamp(min=1e-12)
            return delta * (self.eps / size).clamp(max=1).view(-1, 1, 1, 1)
        if self.norm == "l0":
            return _largest(delta, int(self.eps))
        return onto_l1_ball(delta.flatten(1), self.eps).view_as(delta)

    def random_start(self, origin: Images, generators: Generators) -> Images:
        """A point drawn uniformly from the ball around each origin, then clamped to [0, 1].

        Args:
            origin: The clean images, float32 (N, C, H, W) in [0, 1].
            generators: One generator per image.

        Returns:
            Images, float32 (N, C, H, W) in [0, 1].
        """
        shape = origin.shape[1:]
        if self.norm == "l0":
            chosen = _largest(generators.fork(0).uniform(*shape) + 1, int(self.eps)) > 0
            return torch.where(chosen, generators.fork(1).uniform(*shape).to(origin.dtype), origin)
        if self.norm == "linf":
            delta = generators.uniform(*shape).mul_(2).sub_(1).mul_(self.eps)
        else:
            size = math.prod(shape)
            direction = _random_direction(generators.fork(0), self.norm, shape)
            radius = generators.fork(1).uniform(1).pow(1 / size) * self.eps
            delta = direction * radius.view(-1, 1, 1, 1)
        return (origin + delta.to(origin.dtype)).clamp_(0, 1)


def norms(delta: Images, norm: Norm) -> Tensor:
    """The norm of each perturbation over all its pixels and channels.

    Args:
        delta: Float (N, C, H, W).
        norm: "linf", "l2", "l1" or "l0".

    Returns:
        The norms, (N,), of the dtype of `delta`.
    """
    order = {"linf": math.inf, "l2": 2, "l1": 1, "l0": 0}[norm]
    size: Tensor = torch.linalg.vector_norm(delta.flatten(1), ord=order, dim=1)
    return size


def _random_direction(generators: Generators, norm: Norm, shape: torch.Size) -> Tensor:
    if norm == "l2":
        sample = generators.normal(*shape)
    else:
        sample = -(1 - generators.fork(0).uniform(*shape)).log() * generators.fork(1).rademacher(*shape)
    return sample / norms(sample, norm).clamp(min=1e-12).view(-1, 1, 1, 1)


def _largest(delta: Images, count: int) -> Images:
    """The `count` values of each row that are largest in size; the others are 0."""
    flat = delta.flatten(1)
    if count >= flat.shape[1]:
        return delta
    top = flat.abs().topk(count, dim=1).indices
    return torch.zeros_like(flat).scatter_(1, top, flat.gather(1, top)).view_as(delta)
