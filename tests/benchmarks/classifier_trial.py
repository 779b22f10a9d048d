"""What `classifiers.py` asks of each model, as a row of JSON."""

from __future__ import annotations

import hashlib
import traceback
import warnings
from typing import Any

import torch
from torch import Tensor, nn

import audit
from audit.core.errors import AuditError, NotApplicable
from audit.core.registry import methods
from audit.models.under_test import ModelUnderTest
from tests.benchmarks.classifier_sources import CLASSES, TooLarge, built, loaded, sides

_FEW: dict[str, dict[str, Any]] = {
    "expected-gradients": {"samples": 2},
    "integrated-gradients": {"steps": 2, "max_steps": 2},
    "lime": {"samples": 8},
    "occlusion": {"over": "segments"},
    "rise": {"samples": 4},
    "shap": {"samples": 16},
    "smooth-grad": {"samples": 2},
}
"""Settings that ask a method's question cheaply: whether it answers, not how well. Segments are four quarters."""
_DIFFERENCE = 1e-4
"""Of logits, relative to the largest, between two memory layouts or batch sizes; more where noise of a millionth in the
pixels moves them by a tenth of that."""


def tried(library: str, name: str) -> dict[str, Any]:
    """The row: `status` is answers, wrong, refused, too large or fault, with a `reason`."""
    warnings.simplefilter("ignore")
    try:
        plain, side = _runs(library, name)
    except TooLarge:
        return {"status": "too large"}
    except Exception as fault:
        return {"status": "does not run in its library", "reason": _said(fault)}
    row: dict[str, Any] = {"side": side, "parameters": sum(p.numel() for p in plain.parameters())}
    images = _images(side)
    with torch.no_grad():
        expected = _tensor(plain(images))
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(2)) * 1e-6
        allowed = max(_DIFFERENCE, 10 * _difference(_tensor(plain(images + noise)), expected))
    try:
        reading = loaded(library, name, plain, side)
        before = state_of(reading.module)
        classes = [str(index) for index in range(CLASSES)]
        model = ModelUnderTest(reading.module, classes=classes, input_shape=(3, side, side), device="cpu")
        difference = _difference(model.logits(images), expected)
        wrapped = audit.wrap(plain, classes=CLASSES, input_shape=(3, side, side), device="cpu")
        wrapped_difference = _difference(wrapped.logits(images), expected)
    except (AuditError, NotApplicable) as fault:
        return {**row, "status": "refused", "reason": _said(fault)}
    except Exception as fault:
        return {**row, "status": "fault", "reason": _said(fault), "traceback": traceback.format_exc()[-1500:]}
    right = max(difference, wrapped_difference) <= allowed
    row |= {"status": "answers" if right else "wrong", "difference": difference, "wrapped": wrapped_difference}
    row["methods"] = {method.name: _explained(model, images, method.name) for method in methods("attribution")}
    row["attack"] = _attacked(model, images)
    row["untouched"] = state_of(reading.module) == before
    return row


def state_of(module: nn.Module) -> str:
    """A hash of what must stay as found: numbers, modes, gradients, hooks, types."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(
            f"{name} {tensor.dtype} {tensor.requires_grad}".encode() + tensor.cpu().contiguous().numpy().tobytes()
        )
    for layer in module.modules():
        hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks)
        digest.update(repr((layer.training, *map(len, hooks))).encode())
    digest.update(repr([(p.requires_grad, p.grad is None) for p in module.parameters()]).encode())
    return digest.hexdigest()


def _runs(library: str, name: str) -> tuple[nn.Module, int]:
    """The plain net and the smallest side of image that it takes."""
    refusal: Exception = RuntimeError("no side was tried")
    for side in sides(library, name):
        try:
            plain = built(library, name, side)
            with torch.no_grad():
                if bool(_tensor(plain(_images(side))).isfinite().all()):
                    return plain, side
            refusal = ValueError("the outputs are not finite")
        except TooLarge:
            raise
        except Exception as fault:
            refusal = fault
    raise refusal


def _images(side: int) -> Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def _tensor(outputs: Any) -> Tensor:
    logits = getattr(outputs, "logits", outputs)
    return logits if isinstance(logits, Tensor) else logits[0]


def _difference(logits: Tensor, expected: Tensor) -> float:
    return float((logits - expected).abs().max() / expected.abs().max().clamp(min=1))


def _explained(model: ModelUnderTest, images: Tensor, method: str) -> str:
    """`measured`, the reason why it is not applicable, or FAULT."""
    try:
        half = torch.arange(images.shape[-1]) * 2 // images.shape[-1]
        quarters = half[:, None] * 2 + half[None]
        result = audit.explain(model, images[:1], method=method, segments=quarters, **_FEW.get(method, {}))
    except AuditError as fault:
        return f"error: {_said(fault)}"
    except Exception as fault:
        where = traceback.extract_tb(fault.__traceback__)[-1]
        return f"FAULT {_said(fault)} ({where.filename.rpartition('/')[2]}:{where.lineno})"
    if result.attributions is None:
        return f"not applicable: {result.reason}"
    return "measured" if bool(result.attributions.any()) else "measured, zero everywhere"


def _attacked(model: ModelUnderTest, images: Tensor) -> str:
    try:
        threat = audit.ThreatModel("linf", 8 / 255)
        outcome = audit.robustness(model, images, model.predictions(images), threat, attacks=["fgsm"])
        return "measured" if bool(outcome.adversarial.isfinite().all()) else "FAULT: not finite"
    except AuditError as fault:
        return f"error: {_said(fault)}"
    except Exception as fault:
        return f"FAULT {_said(fault)}"


def _said(fault: BaseException) -> str:
    return f"{type(fault).__name__}: {fault}".split("\n", 1)[0][:300]
