"""What a caller has set torch to does not reach into the public functions, and they leave it as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import pytest
import torch
from torch import Tensor, nn

import audit

THREAT = audit.ThreatModel("linf", 4 / 255)
LABELS = torch.arange(12) % 2


@contextmanager
def in_float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def in_low_precision() -> Iterator[None]:
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            yield
    finally:
        torch.set_float32_matmul_precision("highest")


SETTINGS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "no_grad": torch.no_grad,
    "inference mode": torch.inference_mode,
    "float64 by default": in_float64,
    "autocast": in_low_precision,
}


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 2)).float()


def images() -> Tensor:
    return torch.rand(12, 3, 12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float32)


def answers(setting: Callable[[], AbstractContextManager[object]]) -> list[Tensor]:
    module = net()
    with setting():
        pixels = images()
        model = audit.wrap(module, classes=2, input_shape=(3, 12, 12), device="cpu")
        robust = audit.robustness(model, pixels, LABELS, THREAT, attacks=["pgd"])
        explained = audit.explain(model, pixels, method="integrated-gradients")
        certified = audit.certify(model, pixels, LABELS, THREAT, seconds_per_image=1e-6)
        maps = explained.attributions
        hardened = audit.harden(model, pixels, LABELS, THREAT, epochs=1, batch_size=4).model
        assert maps is not None and not explained.notes
        return [robust.adversarial, maps, hardened.logits(pixels), certified.adversarial, certified.bound]


@pytest.mark.parametrize("name", SETTINGS)
def test_answers_are_the_same_whatever_torch_was_set_to(name: str) -> None:
    for under_setting, plain in zip(answers(SETTINGS[name]), answers(nullcontext), strict=True):
        assert torch.equal(under_setting, plain)
    assert torch.get_default_dtype() == torch.float32 and torch.is_grad_enabled()


def test_images_with_a_graph_are_taken_without_it() -> None:
    model = audit.wrap(net(), classes=2, input_shape=(3, 12, 12), device="cpu")
    pixels = images().requires_grad_(True)
    audit.robustness(model, pixels * 1.0, LABELS, THREAT, attacks=["fgsm"])
    assert audit.explain(model, pixels, method="saliency").status == "measured" and pixels.grad is None


def test_a_bare_module_in_place_of_a_wrapped_one_is_refused() -> None:
    for ask in (
        lambda: audit.robustness(net(), images(), LABELS, THREAT),  # type: ignore[arg-type]
        lambda: audit.explain(net(), images(), method="saliency"),  # type: ignore[arg-type]
        lambda: audit.harden(net(), images(), LABELS, THREAT),  # type: ignore[arg-type]
    ):
        with pytest.raises(audit.AuditError, match=r"Sequential.*audit\.wrap"):
            ask()
