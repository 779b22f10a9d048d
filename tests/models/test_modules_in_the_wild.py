"""Modules as people have them: other types of number, wrappers, scripts, forwards that want more than images."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import audit
from audit.core.errors import ModelError
from audit.models.load_state import load_state
from audit.models.under_test import ModelUnderTest

pytestmark = pytest.mark.filterwarnings("ignore")
SIDE = 12
IMAGES = torch.rand(5, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(5) % 2
MORE = torch.rand(12, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)), torch.arange(12) % 2
THREAT = audit.ThreatModel("linf", 4 / 255)


class Net(nn.Module):
    """A small net with batch norm."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(channels, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.norm(self.conv(images)).relu().mean((2, 3)))  # type: ignore[no-any-return]


class Around(nn.Module):
    """A net with something done to its images or its outputs."""

    def __init__(self, net: nn.Module, run: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.net = net
        self.run = run

    def forward(self, images: Tensor) -> Tensor:
        return self.run(self.net, images)


class Volumes(nn.Module):
    """Images as stacks of one frame, under three-dimensional convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.volume = nn.Conv3d(3, 4, (1, 3, 3))
        self.head = nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.volume(self.first(images).unsqueeze(2)).mean((2, 3, 4)))  # type: ignore[no-any-return]


class Rows(nn.Module):
    """An image read row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3 * SIDE, 4, batch_first=True, bidirectional=True)
        self.head = nn.Linear(8, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.lstm(images.permute(0, 2, 1, 3).flatten(2))[0][:, -1])  # type: ignore[no-any-return]


class Flat(nn.Module):
    """`view` on features, which only the contiguous layout takes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4 * (SIDE - 2) ** 2, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.conv(images).view(len(images), -1))  # type: ignore[no-any-return]


def shared_weights() -> nn.Module:
    first, second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
    second.weight = first.weight
    return nn.Sequential(first, second, Net())


def without_eval() -> nn.Module:
    net = Net().eval()
    net.eval = lambda: None  # type: ignore[method-assign, assignment, return-value]
    return net


def exported(*, fixed: bool) -> nn.Module:
    shapes = None if fixed else ({0: torch.export.Dim.DYNAMIC},)
    return torch.export.export(Net().eval(), (IMAGES[:2],), dynamic_shapes=shapes).module()


def in_inference_mode() -> nn.Module:
    with torch.inference_mode():
        return Net().eval()


MODULES: dict[str, Callable[[], Any]] = {
    "frozen": lambda: Net().requires_grad_(False).eval(),
    "inference tensors": in_inference_mode,
    "shared weights": lambda: shared_weights().eval(),
    "weight norm": lambda: nn.Sequential(nn.utils.weight_norm(nn.Conv2d(3, 3, 3)), Net()).eval(),
    "compiled": lambda: torch.compile(Net().eval(), backend="eager"),
    "data parallel": lambda: nn.DataParallel(Net()).eval(),
    "traced": lambda: torch.jit.trace(Net().eval(), IMAGES[:1]),
    "fx": lambda: torch.fx.symbolic_trace(Net().eval()),
    "exported": lambda: exported(fixed=False),
    "Conv3d": Volumes,
    "view": Flat,
    "recurrent": Rows,
    "eval that returns nothing": without_eval,
    "autocast": lambda: Around(Net().eval(), _in_bfloat16).eval(),
}


def _in_bfloat16(net: nn.Module, images: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return net(images)  # type: ignore[no-any-return]


def state(module: nn.Module) -> str:
    """What must be as found: numbers, types, modes, gradients, hooks."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(f"{name} {value.dtype}".encode() + value.detach().float().contiguous().numpy().tobytes())
    for layer in module.modules():
        hooks = () if isinstance(layer, torch.jit.ScriptModule) else (len(layer._forward_hooks), layer.training)
        digest.update(repr(hooks).encode())
    digest.update(repr([(p.requires_grad, p.grad is None) for p in module.parameters()]).encode())
    return digest.hexdigest()


def wrap(module: Any, channels: int = 3) -> ModelUnderTest:
    return audit.wrap(module, classes=2, input_shape=(channels, SIDE, SIDE), device="cpu")


@pytest.mark.parametrize("name", MODULES)
def test_a_module_answers_as_in_plain_torch_and_is_left_as_found(name: str) -> None:
    module = MODULES[name]()
    before = state(module)
    with torch.no_grad():
        expected = module(IMAGES).float()
    model = wrap(module)
    assert torch.allclose(model.logits(IMAGES), expected, atol=1e-5)
    assert audit.explain(model, IMAGES[:1], method="saliency").status == "measured"
    audit.robustness(model, IMAGES, LABELS, THREAT, attacks=["fgsm"])
    assert state(module) == before


def test_a_module_in_train_mode_is_asked_in_eval_mode_and_stays_in_train_mode() -> None:
    module = Net().train()
    before = state(module)
    assert torch.allclose(wrap(module).logits(IMAGES), copy.deepcopy(module).eval()(IMAGES), atol=1e-6)
    assert module.training and state(module) == before


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_a_module_of_another_type_is_audited_as_a_float32_copy(kind: torch.dtype) -> None:
    net = Net().eval().to(kind)
    model = wrap(net)
    assert torch.allclose(model.logits(IMAGES), copy.deepcopy(net).float()(IMAGES), atol=1e-6)
    assert [note.key for note in model.notes] == ["model_float32"] and str(kind)[6:] in str(model.notes[0])
    assert next(net.parameters()).dtype == kind
    hardened = audit.harden(model, *MORE, THREAT, epochs=1, batch_size=4)
    assert hardened.model.logits(IMAGES).isfinite().all()


def test_a_half_converted_module_is_audited_as_a_float32_copy() -> None:
    net = Net().eval().half()
    net.norm.float()
    assert torch.allclose(wrap(net).logits(IMAGES), copy.deepcopy(net).float()(IMAGES), atol=1e-6)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_a_forward_that_converts_its_images_is_audited_as_it_is(kind: torch.dtype) -> None:
    net = Around(Net().to(kind), lambda inner, images: inner(images.to(kind)).float()).eval()
    model = wrap(net)
    assert torch.equal(model.logits(IMAGES), net(IMAGES))
    assert [note.key for note in model.notes] == ["model_own_types"]
    assert audit.explain(model, IMAGES, method="saliency").status == "measured"


def test_numbers_of_float64_that_no_state_dict_holds_are_met_in_float64() -> None:
    middle = torch.full((1, 1, 1, 1), 0.5, dtype=torch.float64)
    net = Around(Net().double(), lambda inner, images: inner(images - middle)).eval()
    assert torch.allclose(wrap(net).logits(IMAGES), net(IMAGES.double()).float(), atol=1e-6)


def test_a_net_for_one_size_of_batch_takes_any_number_of_images() -> None:
    for module, size in ((exported(fixed=True), 2), (Around(Flat(), _one_by_one), 1)):
        model = wrap(module)
        expected = torch.cat([module(part) for part in IMAGES[:4].split(size)])
        assert torch.allclose(model.logits(IMAGES)[:4], expected, atol=1e-6)
        assert model.logits(IMAGES).shape == (5, 2) and [n.key for n in model.notes] == ["model_fixed_batch"]
        result = audit.explain(model, IMAGES[:1], method="grad-cam")
        assert result.status == "not_applicable" and "batches of one size" in str(result.reason)
        assert audit.explain(model, IMAGES, method="saliency").status == "measured"


def _one_by_one(inner: nn.Module, images: Tensor) -> Tensor:
    (image,) = images
    return inner(image[None])  # type: ignore[no-any-return]


def test_a_quantised_net_answers_and_says_that_it_has_no_gradient() -> None:
    layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE**2, 2)).eval()
    net = torch.ao.quantization.quantize_dynamic(layers, {nn.Linear})
    model = wrap(net)
    assert torch.allclose(model.logits(IMAGES), net(IMAGES), atol=1e-6) and model.fingerprint()
    assert audit.explain(model, IMAGES, method="saliency").status == "not_applicable"
    assert "no gradient" in " ".join(audit.robustness(model, IMAGES, LABELS, THREAT, attacks=["pgd"]).inconclusive)
    with pytest.raises(ModelError, match="no weights that could be trained"):
        audit.harden(model, *MORE, THREAT, epochs=1, batch_size=4)


def test_layers_of_a_script_are_said_to_be_out_of_reach() -> None:
    model = wrap(torch.jit.trace(Net().eval(), IMAGES[:1]))
    for method in ("grad-cam", "lrp", "deep-lift", "guided-backprop"):
        result = audit.explain(model, IMAGES, method=method)
        assert result.status == "not_applicable" and "TorchScript" in str(result.reason)


@pytest.mark.parametrize("make", [Flat, Volumes])
def test_a_net_that_wants_its_channels_first_is_hardened(make: Callable[[], nn.Module]) -> None:
    hardened = audit.harden(wrap(make()), *MORE, THREAT, epochs=1, batch_size=4)
    assert hardened.model.logits(IMAGES).shape == (5, 2)


def test_a_net_that_keeps_its_features_is_hardened_after_it_was_explained() -> None:
    class Keeping(Net):
        def forward(self, images: Tensor) -> Tensor:
            self.kept = self.conv(images)
            return self.head(self.kept.mean((2, 3)))  # type: ignore[no-any-return]

    model = wrap(Keeping())
    audit.explain(model, IMAGES, method="integrated-gradients")
    assert audit.harden(model, *MORE, THREAT, epochs=1, batch_size=4).passes.backwards


def _meta() -> nn.Module:
    with torch.device("meta"):
        return Net()


class Masked(Net):
    """Wants a mask beside its images."""

    def forward(self, images: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(images) * mask


class ByKeyword(Net):
    """Wants its images by keyword."""

    def forward(self, *, pixel_values: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(pixel_values)


class FromDictionary(Net):
    """Wants a dictionary."""

    def forward(self, batch: Any) -> Tensor:
        return super().forward(batch["image"])


class ChannelsLast(Net):
    """Wants (N, H, W, C)."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.permute(0, 3, 1, 2))


class WantsBytes(Net):
    """Checks its input, as nets for phones do."""

    def forward(self, images: Tensor) -> Tensor:
        assert images.dtype == torch.uint8, "uint8 images were expected"
        return super().forward(images / 255)


class WantsItsSize(Net):
    """Checks its input, as timm's vision transformers do."""

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[2] == 1, f"Input height ({images.shape[2]}) doesn't match model (1)."
        return super().forward(images)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a check of its own": (WantsBytes, r"uint8 images were expected\. A check of its own stands in the way\. Wrap it"),
    "a check of the size": (WantsItsSize, r"Input height.*--image-size"),
    "lazy": (lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(2)), r"1\.weight has no shape yet.*once on a batch"),
    "meta": (_meta, r"conv\.weight is on the meta device.*assign=True"),
    "two arguments": (Masked, r"takes images and mask\. Wrap it"),
    "by keyword": (ByKeyword, r"takes pixel_values by keyword\. Wrap it"),
    "a dictionary in": (FromDictionary, r"something else than one tensor.*Wrap it"),
    "channels last": (ChannelsLast, r"another order of axes than \(N, C, H, W\)\. Wrap it"),
    "one channel": (lambda: Net(1), r"images of 1 channel, and these have 3: read them with --grayscale"),
    "a size": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(7, 2)), r"--image-size"),
    "a class": (lambda: Net, r"the class Net.*an instance"),
    "a state dict": (lambda: Net().state_dict(), r"load it into the net"),
    "a function": (lambda: lambda images: images, r"module of your own"),
    "no forward": (lambda: nn.ModuleDict({"net": Net()}), r"Wrap it"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_run_is_refused_with_its_own_remedy(name: str) -> None:
    make, sentence = REFUSED[name]
    with pytest.raises(ModelError, match=sentence):
        wrap(make())


def test_layers_that_ask_for_their_version_are_loaded_from_tensors_that_keep_none() -> None:
    """As torchvision's MNASNet, whose published files are turned into plain tensors by safetensors."""

    class Versioned(nn.Linear):
        _version = 2

        def _load_from_state_dict(self, state: Any, prefix: str, metadata: Any, *more: Any) -> None:
            assert metadata.get("version") == 2
            super()._load_from_state_dict(state, prefix, metadata, *more)

    net, source = Versioned(3, 2), Versioned(3, 2)
    load_state(net, dict(source.state_dict()))
    assert torch.equal(net.weight, source.weight)
