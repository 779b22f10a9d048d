"""What the version matrix asks of the libraries themselves: gradients at kinks, random streams, peers, nets by name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

POINTS = torch.tensor([-4.0, -3.0, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 2.5, 3.0, 6.0])
"""Where the activations below have their kinks, and between."""
TIES = torch.tensor([[1.0, 3.0, 3.0, 2.0], [0.0, 0.0, 0.0, 0.0], [-1.0, -0.0, 0.0, -1.0]])
KINKS: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
    "clamp by numbers": (lambda x: x.clamp(0, 1), POINTS),
    "clamp by tensors": (lambda x: x.clamp(torch.zeros(()), torch.ones(())), POINTS),
    "clamp from below": (lambda x: x.clamp(min=0), POINTS),
    "hardtanh": (lambda x: F.hardtanh(x, 0, 1), POINTS),
    "relu": (F.relu, POINTS),
    "relu6": (F.relu6, POINTS),
    "leaky relu": (F.leaky_relu, POINTS),
    "hardsigmoid": (F.hardsigmoid, POINTS),
    "hardswish": (F.hardswish, POINTS),
    "hardshrink": (F.hardshrink, POINTS),
    "softshrink": (F.softshrink, POINTS),
    "threshold": (lambda x: F.threshold(x, 0.5, 0.0), POINTS),
    "elu": (F.elu, POINTS),
    "gelu": (F.gelu, POINTS),
    "abs": (torch.abs, POINTS),
    "sign": (torch.sign, POINTS),
    "round": (torch.round, POINTS),
    "sqrt of a square": (lambda x: x.square().sqrt(), POINTS),
    "maximum with zero": (lambda x: torch.maximum(x, torch.zeros(())), POINTS),
    "fmax with zero": (lambda x: torch.fmax(x, torch.zeros(())), POINTS),
    "nan_to_num": (torch.nan_to_num, POINTS),
    "max of all": (torch.max, TIES),
    "max along": (lambda x: x.max(1).values, TIES),
    "amax": (lambda x: x.amax(1), TIES),
    "aminmax": (lambda x: x.aminmax(dim=1).max, TIES),
    "median": (lambda x: x.median(1).values, TIES),
    "sorted": (lambda x: x.sort(1).values * torch.arange(4.0), TIES),
    "topk": (lambda x: x.topk(2, 1).values * torch.tensor([1.0, 5.0]), TIES),
    "cummax": (lambda x: x.cummax(1).values, TIES),
    "logsumexp": (lambda x: x.logsumexp(1), TIES),
    "linf norm": (lambda x: torch.linalg.vector_norm(x, float("inf"), 1), TIES),
    "l1 norm": (lambda x: torch.linalg.vector_norm(x, 1, 1), TIES),
    "l2 norm": (lambda x: torch.linalg.vector_norm(x, 2, 1), TIES),
    "prod": (lambda x: x.prod(1), TIES),
    "std": (lambda x: x.std(1), TIES),
    "max pooling": (lambda x: F.max_pool1d(x[None], 2), TIES),
    "adaptive max pooling": (lambda x: F.adaptive_max_pool1d(x[None], 3), TIES),
    "adaptive average pooling": (lambda x: F.adaptive_avg_pool1d(x[None], 3), TIES),
    "layer norm": (lambda x: F.layer_norm(x, (4,)), TIES),
    "normalize": (F.normalize, TIES),
    "cosine similarity": (lambda x: F.cosine_similarity(x, x.flip(1)), TIES),
    "pairwise distance": (lambda x: F.pairwise_distance(x, x.flip(0)), TIES),
    "cdist": (lambda x: torch.cdist(x, x.flip(0)), TIES),
    "bilinear": (lambda x: F.interpolate(x[None, None], size=(5, 7), mode="bilinear"), TIES),
    "bilinear, antialiased": (
        lambda x: F.interpolate(x[None, None], size=(2, 2), mode="bilinear", antialias=True),
        TIES,
    ),
    "bicubic": (lambda x: F.interpolate(x[None, None], size=(5, 7), mode="bicubic"), TIES),
    "cross entropy": (lambda x: F.cross_entropy(x, torch.tensor([1, 2, 3]), label_smoothing=0.1), TIES),
    "kl divergence": (lambda x: F.kl_div(x.log_softmax(1), x.flip(1).softmax(1), reduction="batchmean"), TIES),
    "fake quantisation": (lambda x: torch.fake_quantize_per_tensor_affine(x, 0.25, 0, 0, 12), POINTS),
}
DRAWS: dict[str, Callable[[torch.Generator], Tensor]] = {
    "rand": lambda g: torch.rand(1000, generator=g),
    "rand, double": lambda g: torch.rand(1000, generator=g, dtype=torch.float64),
    "randn": lambda g: torch.randn(1000, generator=g),
    "randn, few": lambda g: torch.randn(7, generator=g),
    "randint": lambda g: torch.randint(0, 37, (1000,), generator=g),
    "randperm": lambda g: torch.randperm(1000, generator=g),
    "multinomial": lambda g: torch.multinomial(torch.arange(1.0, 50), 20, generator=g),
    "bernoulli": lambda g: torch.bernoulli(torch.full((1000,), 0.3), generator=g),
    "exponential": lambda g: torch.empty(1000).exponential_(generator=g),
    "poisson": lambda g: torch.poisson(torch.full((1000,), 3.0), generator=g),
    "kaiming": lambda g: nn.init.kaiming_uniform_(torch.empty(20, 20), generator=g),
    "truncated normal": lambda g: nn.init.trunc_normal_(torch.empty(20, 20), generator=g),
    "orthogonal": lambda g: nn.init.orthogonal_(torch.empty(8, 8), generator=g),
}


def torch_kinks(subject: Any) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Values and gradients at kinks and ties."""
    for name, (function, points) in KINKS.items():
        yield name, lambda function=function, points=points: _value_and_gradient(function, points)


def _value_and_gradient(function: Callable[[Tensor], Tensor], points: Tensor) -> dict[str, Any]:
    leaf = points.clone().requires_grad_(True)
    value = function(leaf)
    return {"value": value, "gradient": torch.autograd.grad(value.sum(), leaf)[0]}


def random_streams(subject: Any) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Draws from one seed."""
    for name, draw in DRAWS.items():
        yield name, lambda draw=draw: {"draws": draw(torch.Generator().manual_seed(0))}
    yield "dropout", lambda: {"draws": F.dropout(torch.ones(1000), 0.5)}
    rng = np.random.default_rng
    yield "numpy normal", lambda: {"draws": rng(0).normal(size=1000)}
    yield "numpy integers", lambda: {"draws": rng(0).integers(0, 37, 1000)}
    yield "numpy permutation", lambda: {"draws": rng(0).permutation(1000)}
    yield "numpy choice", lambda: {"draws": rng(0).choice(1000, 50, replace=False)}
    yield "numpy gamma", lambda: {"draws": rng(0).gamma(2.0, size=1000)}
    yield "numpy, old normal", lambda: {"draws": np.random.RandomState(0).normal(size=1000)}


def peers(subject: Any) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """What captum, shap, lime and foolbox themselves answer."""
    import captum.attr
    import shap

    net, images, labels = subject.net, subject.images[:2], subject.labels
    for name in ("Saliency", "IntegratedGradients", "InputXGradient", "DeepLift", "GuidedBackprop", "Occlusion"):
        options = {"sliding_window_shapes": (1, 4, 4), "strides": 2} if name == "Occlusion" else {}
        yield (
            f"captum {name}",
            lambda name=name, options=options: {
                "map": getattr(captum.attr, name)(net).attribute(images, target=3, **options)
            },
        )
    quarters = (torch.arange(28)[:, None] // 14 * 2 + torch.arange(28) // 14)[None, None]
    for name in ("KernelShap", "Lime", "ShapleyValueSampling", "ShapleyValues", "FeatureAblation"):
        yield (
            f"captum {name}",
            lambda name=name: {
                "map": getattr(captum.attr, name)(net).attribute(images[:1], target=3, feature_mask=quarters)
            },
        )
    background = subject.images[8:24]
    for name in ("DeepExplainer", "GradientExplainer"):
        yield (
            f"shap {name}",
            lambda name=name: {"map": np.asarray(getattr(shap, name)(net, background).shap_values(images))},
        )
    table = np.random.default_rng(0).normal(size=(30, 12))
    function = lambda rows: np.tanh(rows[:, :6].sum(1)) + rows[:, 6] * rows[:, 7]  # noqa: E731
    yield (
        "shap KernelExplainer",
        lambda: {"map": shap.KernelExplainer(function, table[:5]).shap_values(table[:3], silent=True)},
    )
    yield (
        "shap Permutation",
        lambda: {"map": shap.explainers.Permutation(function, table[:5], seed=0)(table[:3]).values},
    )
    for norm in ("LinfPGD", "L2PGD", "L2DeepFoolAttack"):
        for twin in ("plain", "clamped"):
            yield f"foolbox {norm} {twin}", lambda norm=norm, twin=twin: _foolbox(subject, norm, twin, labels)


def _foolbox(subject: Any, attack: str, twin: str, labels: Tensor) -> dict[str, Any]:
    import foolbox

    module = subject.model(clamped=twin == "clamped").net
    model = foolbox.PyTorchModel(module.eval(), bounds=(0, 1), device="cpu")
    options = {"random_start": False} if "PGD" in attack else {}
    eps = 0.05 if "Linf" in attack else 1.0
    _, _, success = getattr(foolbox.attacks, attack)(**options)(model, subject.images, labels, epsilons=eps)
    return {"robust": ~success}


NAMES = {
    "torchvision": ("resnet18", "mobilenet_v3_small", "efficientnet_b0", "vit_b_32", "swin_t", "googlenet"),
    "timm": (
        "vit_tiny_patch16_224",
        "efficientnet_lite0",
        "convnext_atto",
        "mobilenetv4_conv_small",
        "xcit_nano_12_p16_224",
    ),
    "transformers": ("ViT", "ResNet", "Swin", "ConvNext", "MobileNetV2", "DeiT", "Beit", "RegNet"),
}


def nets(subject: Any) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Nets by name: their keys, and their logits on weights that are drawn by numpy key by key."""
    for library, names in NAMES.items():
        for name in names:
            yield f"{library} {name}", lambda library=library, name=name: _net(library, name)


def _net(library: str, name: str) -> dict[str, Any]:
    net, side = _built(library, name), 64 if library == "torchvision" and name != "vit_b_32" else 224
    state = {key: _filled(key, value) for key, value in sorted(net.state_dict().items())}
    net.load_state_dict(state)
    images = torch.from_numpy(np.random.default_rng(1).random((1, 3, side, side), np.float32))
    with torch.no_grad():
        answer = net.eval()(images)
    return {"keys": "\n".join(state), "logits": getattr(answer, "logits", answer)}


def _built(library: str, name: str) -> nn.Module:
    if library == "timm":
        import timm

        return timm.create_model(name, num_classes=7)
    if library == "torchvision":
        import torchvision

        extra = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
        return getattr(torchvision.models, name)(num_classes=7, **extra)
    import transformers

    config = getattr(transformers, f"{name}Config")(num_labels=7)
    small = {"num_hidden_layers": 2, "hidden_size": 48, "num_attention_heads": 4, "intermediate_size": 96}
    for key, value in small.items():
        if name in ("ViT", "DeiT", "Beit") and hasattr(config, key):
            setattr(config, key, value)
    return getattr(transformers, f"{name}ForImageClassification")(config)


def _filled(key: str, value: Tensor) -> Tensor:
    if not value.is_floating_point():
        return value
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
    draw = torch.from_numpy(np.random.default_rng(seed).normal(size=tuple(value.shape))).to(value.dtype)
    if key.endswith("running_var"):
        return 1 + 0.1 * draw.abs()
    fan = value[0].numel() if value.ndim > 1 else 1
    return draw / fan**0.5 if value.ndim > 1 else 1 + 0.1 * draw if "weight" in key else 0.1 * draw


LIBRARY_PROBES = {"kink": torch_kinks, "draw": random_streams, "peer": peers, "net": nets}
