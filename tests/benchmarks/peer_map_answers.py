"""Rows of `peer_answers.py` about explanations."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Functional(nn.Module):
    """Two layers with a ReLU between them, called as a function or held as a module."""

    def __init__(self, *, module: bool) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(16, 12), nn.Linear(12, 3)
        self.relu = nn.ReLU() if module else F.relu

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.relu(self.first(images.flatten(1))))


def captum_rule(rule: str) -> Callable[[int], str]:
    def answer(seed: int) -> str:
        from captum.attr import IntegratedGradients

        linear, point = nn.Linear(16, 3), torch.rand(1, 16)
        whole = (linear(point) - linear(torch.zeros(1, 16)))[0, 1].item()
        share = IntegratedGradients(linear).attribute(point, target=1, method=rule, n_steps=20).sum().item() / whole
        return f"{share:.2f} of it"

    return answer


def captum_functional(method: str) -> Callable[[int], str]:
    def answer(seed: int) -> str:
        import captum.attr

        held, called = Functional(module=True).eval(), Functional(module=False).eval()
        called.load_state_dict(held.state_dict())
        point = torch.rand(1, 16)
        first, second = (getattr(captum.attr, method)(net).attribute(point, target=1) for net in (held, called))
        return "another map, no warning of it" if not torch.allclose(first, second, atol=1e-6) else "the same map"

    return answer


def captum_lime(seed: int) -> str:
    from captum.attr import Lime

    net = nn.Sequential(nn.Linear(16, 10), nn.Softmax(1)).eval()
    found = Lime(net).attribute(torch.rand(1, 16), target=1, n_samples=500)
    return "all 16 coefficients 0" if not found.any() else "some coefficients other than 0"


def captum_flatten(seed: int) -> str:
    from captum.attr import LRP

    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)).eval()
    try:
        LRP(net).attribute(torch.rand(1, 1, 4, 4), target=1)
    except TypeError:
        left = sum(hasattr(layer, "rule") for layer in net)
        return f"a TypeError; {left} layers of the net keep an attribute `rule`"
    return "a map"


def shap_kernel(seed: int) -> str:
    import shap

    np.random.seed(seed)
    weights, point = (
        np.random.default_rng(seed).normal(size=(12, 16)),
        np.random.default_rng(seed + 99).normal(size=(1, 12)),
    )
    explainer = shap.KernelExplainer(lambda rows: np.tanh(rows @ weights).sum(1), np.zeros((1, 12)))
    found = explainer.shap_values(point, nsamples=5000, silent=True)[0]
    return f"{int((found == 0).sum())} of 12 are exactly 0"


def shap_deep(seed: int) -> str:
    import shap

    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(16, 3)).eval()
    images = torch.rand(2, 1, 4, 4)
    try:
        shap.DeepExplainer(net, torch.rand(4, 1, 4, 4)).shap_values(images)
    except Exception as fault:
        try:
            net(images.requires_grad_(True))
        except RuntimeError:
            return f"{type(fault).__name__}; then the net itself fails"
        return f"{type(fault).__name__}; the net works on"
    return "an answer"


def grad_cam_scale(seed: int) -> str:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    net, images = net.eval(), torch.rand(1, 1, 8, 8)
    with torch.no_grad():
        net[4].weight[1], net[4].weight[2] = 1.0, 1e-6
    maps = []
    for target in (1, 2):
        with GradCAM(model=net, target_layers=[net[1]]) as cam:
            maps.append(cam(input_tensor=images, targets=[ClassifierOutputTarget(target)]))
    return "the same map, scaled to 1" if abs(maps[0] - maps[1]).max() < 1e-4 else "another map"


def zennit_functional(seed: int) -> str:
    from zennit.attribution import Gradient
    from zennit.composites import GuidedBackprop

    held, called = Functional(module=True).eval(), Functional(module=False).eval()
    called.load_state_dict(held.state_dict())
    point, maps = torch.rand(1, 16), []
    for net in (held, called):
        with Gradient(model=copy.deepcopy(net), composite=GuidedBackprop()) as attributor:
            maps.append(attributor(point, torch.eye(3)[[1]])[1])
    return "another map, no warning of it" if not torch.allclose(*maps, atol=1e-6) else "the same map"


def lime_segments(seed: int) -> str:
    from lime.lime_image import LimeImageExplainer
    from skimage import data, transform

    image = transform.resize(data.astronaut(), (32, 32), anti_aliasing=True)

    def classify(images: list[np.ndarray]) -> np.ndarray:
        share = np.asarray(images).mean((1, 2, 3))
        return np.stack([share, 1 - share], 1)

    explained = LimeImageExplainer(random_state=seed).explain_instance(image, classify, hide_color=0, num_samples=50)
    return f"{len(np.unique(explained.segments))} segments"


class Watched(nn.Module):
    """A net that remembers the lowest and the highest pixel it was asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.low, self.high = Functional(module=True), 1.0, 0.0

    def forward(self, images: Tensor) -> Tensor:
        self.low, self.high = min(self.low, float(images.min())), max(self.high, float(images.max()))
        return self.inner(images)


def quantus_metric(name: str, **options: object) -> Callable[[int], str]:
    def answer(seed: int) -> str:
        import quantus

        net = Watched().eval()
        images = np.random.default_rng(seed).random((4, 1, 4, 4)).astype(np.float32)
        labels = np.zeros(4, dtype=int)
        maps = np.random.default_rng(seed + 1).normal(size=(4, 1, 4, 4)).astype(np.float32)
        metric = getattr(quantus, name)(disable_warnings=True, **options)
        try:
            scores = metric(
                net, images, labels, maps, explain_func=quantus.explain, explain_func_kwargs={"method": "Saliency"}
            )
        except (AttributeError, ImportError, TypeError, ValueError) as fault:
            return f"{type(fault).__name__}: {str(fault).splitlines()[0][:80]}"
        asked = "pixels below 0 or above 1 asked" if net.low < 0 or net.high > 1 else "pixels in [0, 1] asked"
        return asked + (", a score" if np.isfinite(np.asarray(scores, float)).all() else ", no finite score")

    return answer


_CALLED = "the same net with F.relu in place of nn.ReLU"
_AREA = quantus_metric("PixelFlipping", features_in_step=4, return_auc_per_sample=True)
_WITHIN = "pixels in [0, 1] asked"
MAP_ROWS: tuple[tuple[str, str, Callable[[int], str], str], ...] = (
    ("captum", "integrated gradients, trapezoid, 20 steps, linear net", captum_rule("riemann_trapezoid"), "1.00 of it"),
    ("captum", f"DeepLift, {_CALLED}", captum_functional("DeepLift"), "the same map"),
    ("captum", f"GuidedBackprop, {_CALLED}", captum_functional("GuidedBackprop"), "the same map"),
    ("captum", "Lime of probabilities, defaults, 500 samples", captum_lime, "16 other than 0"),
    ("captum", "LRP through nn.Flatten", captum_flatten, "a map, or an error and the net as found"),
    ("shap", "KernelExplainer, 12 features that all matter, 5,000 samples", shap_kernel, "0 of 12"),
    ("shap", "DeepExplainer, in-place ReLU", shap_deep, "an answer, or an error and the net as found"),
    ("grad-cam", "Grad-CAM of a class with weights 1 and of one with 1e-6", grad_cam_scale, "scales a million apart"),
    ("zennit", f"guided backpropagation, {_CALLED}", zennit_functional, "the same map"),
    ("quantus", "area under pixel flipping", _AREA, "a score"),
    ("quantus", "largest sensitivity of images in [0, 1]", quantus_metric("MaxSensitivity", nr_samples=5), _WITHIN),
    ("lime", "default segments of a photograph at 32x32", lime_segments, "some dozens"),
)
