"""nrtk's perturbers (https://nrtk.readthedocs.io) as corruptions: `nrtk:haze`, or `nrtk:haze:factor=0.2,0.5,0.9`.

The values of one parameter are the severities 1, 2, ... up to 5. Where a perturber draws at random, each image has a
seed of its own, the same at every severity.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import torch

from audit.core.errors import SetupError, UsageError, fault_line, unknown_name
from audit.core.method import Method, first_sentence
from audit.core.method_families import family
from audit.core.seeding import Generators
from audit.core.types import Images

_MODULES = ("environment", "optical", "optical.otf", "photometric.enhance", "photometric.noise", "photometric.blur")
_MOST = 5
_SUFFIX = "Perturber"
_SWEEPS: Mapping[str, tuple[str, tuple[float, ...]]] = {
    "brightness": ("factor", (0.8, 0.6, 0.45, 0.3, 0.15)),
    "color": ("factor", (0.8, 0.6, 0.4, 0.2, 0.0)),
    "contrast": ("factor", (0.8, 0.6, 0.45, 0.3, 0.15)),
    "gaussian-noise": ("var", (0.005, 0.01, 0.02, 0.05, 0.1)),
    "haze": ("factor", (0.2, 0.4, 0.6, 0.8, 1.0)),
    "pepper-noise": ("amount", (0.01, 0.02, 0.05, 0.1, 0.2)),
    "salt-and-pepper-noise": ("amount", (0.01, 0.02, 0.05, 0.1, 0.2)),
    "salt-noise": ("amount", (0.01, 0.02, 0.05, 0.1, 0.2)),
    "sharpness": ("factor", (0.8, 0.6, 0.4, 0.2, 0.0)),
    "speckle-noise": ("var", (0.01, 0.02, 0.05, 0.1, 0.2)),
    "water-droplet": ("num_drops", (5, 10, 20, 40, 80)),
}
"""The parameter, and its values from weak to strong, of a perturber that is named alone."""


@family("corruption", "nrtk")
def nrtk_corruption(name: str) -> Method:
    """The corruption of a name; its own name says the values.

    Args:
        name: nrtk:PERTURBER, or nrtk:PERTURBER:PARAMETER=VALUE,... with at most five numbers.

    Raises:
        SetupError: nrtk is missing.
        UsageError: There is no such perturber or parameter, or the values are no numbers.
    """
    _, perturber, sweep = (*name.split(":", 2), "", "")[:3]
    kind = _perturber(perturber)
    parameters = [p for p in inspect.signature(kind).parameters if p not in ("seed", "is_static")]
    if not sweep and perturber not in _SWEEPS:
        raise UsageError(
            f"nrtk:{perturber} has no usual values: write nrtk:{perturber}:PARAMETER=VALUE,... with one of its "
            f"parameters, {', '.join(parameters)}."
        )
    parameter, values = _parsed(perturber, sweep) if sweep else _SWEEPS[perturber]
    if parameter not in parameters:
        raise unknown_name(f"parameter of nrtk:{perturber}", parameter, parameters)

    def perturbed(images: Images, severity: int, generators: Generators) -> Images:
        return _perturbed(kind, {parameter: values[severity - 1]}, images, generators)

    shown = ",".join(f"{value:g}" for value in values)
    return Method(
        "corruption",
        f"nrtk:{perturber}:{parameter}={shown}",
        perturbed,
        first_sentence(inspect.getdoc(kind) or ""),
        "https://nrtk.readthedocs.io",
        wraps="nrtk",
        facts={"group": "nrtk", "severities": len(values)},
    )


def _parsed(perturber: str, sweep: str) -> tuple[str, tuple[float, ...]]:
    parameter, _, text = sweep.partition("=")
    try:
        values = tuple(float(word) for word in text.split(","))
    except ValueError:
        values = ()
    if not 1 <= len(values) <= _MOST or not all(map(np.isfinite, values)):
        raise UsageError(
            f"nrtk:{perturber}:{sweep} was given, where PARAMETER=VALUE,... was expected, one to {_MOST} numbers from "
            "weak to strong."
        )
    return parameter, tuple(int(value) if value == int(value) and "." not in text else value for value in values)


def _perturber(name: str) -> type:
    kinds = _perturbers()
    if name not in kinds:
        raise unknown_name("nrtk perturber", name, sorted(kinds))
    return kinds[name]


@cache
def _perturbers() -> dict[str, type]:
    """Those whose libraries are installed, by name with dashes."""
    kinds: dict[str, type] = {}
    for module in _MODULES:
        try:
            library: Any = import_module(f"nrtk.impls.perturb_image.{module}")
        except ImportError as fault:
            raise SetupError(
                "Corruptions whose names begin with nrtk: need nrtk; install it with pip install 'audit[nrtk]'."
            ) from fault
        for name in getattr(library, "__all__", ()):
            kind = getattr(library, name)
            if inspect.isclass(kind) and name.endswith(_SUFFIX):
                kinds[re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name.removesuffix(_SUFFIX)).lower()] = kind
    return kinds


def _perturbed(kind: type, settings: Mapping[str, float], images: Images, generators: Generators) -> Images:
    seeded = "seed" in inspect.signature(kind).parameters
    as_bytes = (images * 255).round().to("cpu", torch.uint8).permute(0, 2, 3, 1).numpy()
    changed = []
    for picture, key in zip(as_bytes, generators.keys.tolist(), strict=True):
        grey = picture.shape[2] == 1
        try:
            perturber: Any = kind(**settings, **({"seed": key % 2**32} if seeded else {}))
            answer = np.asarray(perturber(image=picture[:, :, 0] if grey else picture)[0])
        except Exception as fault:  # whatever types the library raises
            raise UsageError(
                f"nrtk's {kind.__name__} does not take images of shape {picture.shape} at "
                f"{', '.join(f'{k}={v:g}' for k, v in settings.items())} ({fault_line(fault)}); leave it out."
            ) from fault
        answer = answer[:, :, None] if answer.ndim == 2 else answer
        if answer.shape != picture.shape or answer.dtype != np.uint8:
            raise UsageError(
                f"nrtk's {kind.__name__} gave {answer.dtype} of shape {answer.shape} for an image of bytes of shape "
                f"{picture.shape}; leave it out."
            )
        changed.append(torch.from_numpy(answer.astype(np.float32) / np.float32(255)).permute(2, 0, 1))
    return torch.stack(changed).contiguous().to(images.device)
