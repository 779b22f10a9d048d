"""Rows of `peer_answers.py` about attacks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 8 / 255


class WithBatchNorm(nn.Module):
    """A small net with batch norm, as it comes from training."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(F.relu(self.norm(self.first(images))).mean((2, 3)))


class Shifted(nn.Module):
    """A linear net whose logits are all moved by a constant."""

    def __init__(self, constant: float, scale: float = 1.0) -> None:
        super().__init__()
        self.linear, self.constant, self.scale = nn.Linear(64, 5), constant, scale

    def forward(self, images: Tensor) -> Tensor:
        return self.scale * self.linear(images.flatten(1)) + self.constant


def images_of(seed: int, *, extreme: bool = False) -> Tensor:
    images = torch.rand(32, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return (images > 0.5).float() if extreme else images * 0.8 + 0.1


def linear_case(seed: int, constant: float = 0.0, *, extreme: bool = False) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(seed)
    net, images = Shifted(constant).eval(), images_of(seed, extreme=extreme)
    return net, images, net(images).argmax(1)


def exact_l2(net: Shifted, images: Tensor, labels: Tensor) -> Tensor:
    """Distances to the nearest boundary of a linear net, without the box: a lower bound."""
    logits, weights = net(images).detach(), net.linear.weight.detach()
    gaps = logits.gather(1, labels[:, None]) - logits
    norms = (weights[labels][:, None] - weights[None]).norm(dim=2)
    return (gaps / norms).masked_fill(F.one_hot(labels, 5).bool(), float("inf")).amin(1)


def foolbox_pgd(net: nn.Module, images: Tensor, labels: Tensor, steps: int = 5) -> Tensor:
    import foolbox

    wrapped = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
    return foolbox.attacks.LinfPGD(steps=steps)(wrapped, images, labels, epsilons=EPS)[1]


def torchattacks_pgd(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    import torchattacks

    return torchattacks.PGD(net, eps=EPS, alpha=EPS / 3, steps=5)(images, labels)


def art_pgd(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    wrapped = PyTorchClassifier(
        net, nn.CrossEntropyLoss(), tuple(images.shape[1:]), 5, clip_values=(0, 1), device_type="cpu"
    )
    attack = ProjectedGradientDescentPyTorch(wrapped, eps=EPS, eps_step=EPS / 3, max_iter=5, verbose=False)
    return torch.from_numpy(attack.generate(images.numpy(), labels.numpy()))


def advlib_pgd(net: nn.Module, images: Tensor, labels: Tensor, steps: int = 5) -> Tensor:
    from adv_lib.attacks import pgd_linf

    return pgd_linf(net, images, labels, ε=EPS, steps=steps)


def pyautoattack(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    from pyautoattack import AutoAttack

    attack = AutoAttack(net, norm="Linf", eps=EPS, version="standard", seed=0, device="cpu")
    return attack.run_standard_evaluation(images, labels, batch_size=32)[0]


Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]


def state_afterwards(attack: Attack) -> Callable[[int], str]:
    def answer(seed: int) -> str:
        torch.manual_seed(seed)
        net, images = WithBatchNorm().train(), images_of(seed)
        mean = net.norm.running_mean.clone()
        with suppress(IndexError):  # pyautoattack's, see `robust_accuracy`; the state is what it left
            attack(net, images, torch.zeros(32, dtype=torch.int64))
        told = ["still in train mode" if net.training else "left in eval mode"]
        told += ["statistics changed"] if not torch.equal(mean, net.norm.running_mean) else []
        told += ["gradients left on the weights"] if any(p.grad is not None for p in net.parameters()) else []
        return ", ".join(told)

    return answer


def beyond_eps(attack: Attack) -> Callable[[int], str]:
    def answer(seed: int) -> str:
        net, images, labels = linear_case(seed)
        distance = (attack(net, images, labels).double() - images.double()).abs().amax((1, 2, 3))
        return "some images beyond eps" if bool((distance > EPS).any()) else "all within eps"

    return answer


def robust_accuracy(attack: Attack) -> Callable[[int], str]:
    def answer(seed: int) -> str:
        """Beside the exact one: every pixel moves by eps against the nearest class, and no pixel meets the box."""
        net, images, labels = linear_case(seed)
        logits, weights = net(images).detach(), net.linear.weight.detach()
        gaps = (
            logits.gather(1, labels[:, None]) - logits - EPS * (weights[labels][:, None] - weights[None]).abs().sum(2)
        )
        exact = int((gaps.masked_fill(F.one_hot(labels, 5).bool(), 1.0) > 0).all(1).sum())
        try:
            found = int((net(attack(net, images, labels)).argmax(1) == labels).sum())
        except (RuntimeError, IndexError, ValueError) as fault:
            return f"{type(fault).__name__}: {str(fault).splitlines()[0][:70]}"
        extra = found - exact
        return "exact" if extra == 0 else f"too high by {'1 or 2' if extra < 3 else '3 or more'} of 32 images"

    return answer


def foolbox_targeted(seed: int) -> str:
    import foolbox

    net, images, labels = linear_case(seed)
    wrapped = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
    goal = foolbox.criteria.TargetedMisclassification((labels + 1) % 5)
    found = foolbox.attacks.L2DeepFoolAttack()(wrapped, images, goal, epsilons=None)[1]
    near = float((net(found).argmax(1) != labels).float().mean())
    return "no error; most images led to another class" if near > 0.5 else "no error"


def foolbox_black(seed: int) -> str:
    import foolbox

    net, images, labels = linear_case(seed)
    wrapped = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.L2CarliniWagnerAttack(binary_search_steps=1, steps=1, initial_const=1e-6)
    _, found, success = attack(wrapped, images, labels, epsilons=None)
    black = found.flatten(1).abs().amax(1) == 0
    return (
        "black images, some as successes" if bool((black & success).any()) else "black images" if black.any() else "-"
    )


def torchattacks_constant(constant: float) -> Callable[[int], str]:
    def answer(seed: int) -> str:
        import torchattacks

        net, images, labels = linear_case(seed, constant)
        found = torchattacks.CW(net, c=10, steps=60, lr=0.01)(images, labels)
        share = float((net(found).argmax(1) == labels).float().mean())
        return "none broken" if share == 1 else "all broken" if share == 0 else "some broken"

    return answer


def torchattacks_frozen(seed: int) -> str:
    import torchattacks

    net, images, labels = linear_case(seed, 100.0, extreme=True)
    found = torchattacks.CW(net, c=10, steps=60, lr=0.05)(images, labels)
    return "every pixel unchanged, 100% robust" if torch.equal(found, images) else "broken"


def rounded_to_bytes(find: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> Callable[[int], str]:
    def answer(seed: int) -> str:
        net, images, _ = linear_case(seed)
        images = (images * 255).round() / 255
        labels = net(images).argmax(1)
        found = find(net, images, labels)
        stored = (found * 255).round() / 255
        kept = float((net(stored).argmax(1) != labels).sum()) / max(1.0, float((net(found).argmax(1) != labels).sum()))
        return (
            "over 90% still broken"
            if kept > 0.9
            else "60 to 90% still broken"
            if kept > 0.6
            else "under 60% still broken"
        )

    return answer


def foolbox_deepfool(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    import foolbox

    wrapped = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
    return foolbox.attacks.L2DeepFoolAttack()(wrapped, images, labels, epsilons=None)[1]


def advlib_fmn(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    from adv_lib.attacks import fmn

    return fmn(net, images, labels, norm=2, steps=50)


def certain(attack: Attack) -> Callable[[int], str]:
    def answer(seed: int) -> str:
        """Whether logits multiplied by 10,000, which changes no decision, change how many images are broken."""
        net, images, labels = linear_case(seed)
        torch.manual_seed(seed)
        plain = int((net(attack(net, images, labels)).argmax(1) != labels).sum())
        net.scale = 1e4
        torch.manual_seed(seed)
        sure = int((net(attack(net, images, labels)).argmax(1) != labels).sum())
        return "fewer images broken" if sure < plain else "as many broken"

    return answer


_STATE = "a net in train mode is attacked by PGD; its state afterwards"
_STATE_RIGHT = "as before the call (audit attacks a copy in eval mode)"
_EPS = "is every image of linf PGD within eps in exact arithmetic"
_EPS_RIGHT = "within (audit re-projects and re-measures in float64)"
_SURE = "logits x 10,000, the same decisions: PGD on cross-entropy breaks"
_SURE_RIGHT = "as many (audit adds margin losses, and reads inconclusive where gradients vanish)"
_EXACT = "robust accuracy of a linear net of five classes, beside the exact one"
"""foolbox's and adv-lib's steps are a 30th of eps by default, so they get 40."""
_EXACT_RIGHT = "exact (audit tests every attack against such distances)"
_BYTES = "a minimal adversarial image is stored in 8 bits and read again"
_BYTES_RIGHT = "it need not be (audit asks the stored bytes: its honesty check)"
ATTACK_ROWS: tuple[tuple[str, str, Callable[[int], str], str], ...] = (
    ("foolbox", _STATE, state_afterwards(foolbox_pgd), _STATE_RIGHT),
    ("torchattacks", _STATE, state_afterwards(torchattacks_pgd), _STATE_RIGHT),
    ("adversarial-robustness-toolbox", _STATE, state_afterwards(art_pgd), _STATE_RIGHT),
    ("adv-lib", _STATE, state_afterwards(advlib_pgd), _STATE_RIGHT),
    ("foolbox", _EPS, beyond_eps(foolbox_pgd), _EPS_RIGHT),
    ("torchattacks", _EPS, beyond_eps(torchattacks_pgd), _EPS_RIGHT),
    ("adversarial-robustness-toolbox", _EPS, beyond_eps(art_pgd), _EPS_RIGHT),
    ("adv-lib", _EPS, beyond_eps(advlib_pgd), _EPS_RIGHT),
    ("foolbox", _SURE, certain(foolbox_pgd), _SURE_RIGHT),
    ("torchattacks", _SURE, certain(torchattacks_pgd), _SURE_RIGHT),
    ("adversarial-robustness-toolbox", _SURE, certain(art_pgd), _SURE_RIGHT),
    ("adv-lib", _SURE, certain(advlib_pgd), _SURE_RIGHT),
    ("foolbox", _EXACT, robust_accuracy(partial(foolbox_pgd, steps=40)), _EXACT_RIGHT),
    ("torchattacks", _EXACT, robust_accuracy(torchattacks_pgd), _EXACT_RIGHT),
    ("adversarial-robustness-toolbox", _EXACT, robust_accuracy(art_pgd), _EXACT_RIGHT),
    ("adv-lib", _EXACT, robust_accuracy(partial(advlib_pgd, steps=40)), _EXACT_RIGHT),
    ("pyautoattack", _STATE, state_afterwards(pyautoattack), _STATE_RIGHT),
    ("pyautoattack", _EXACT, robust_accuracy(pyautoattack), _EXACT_RIGHT),
    ("foolbox", "DeepFool with a targeted criterion", foolbox_targeted, "an error, or the target (audit: an error)"),
    ("foolbox", "C&W that finds nothing, `epsilons=None`", foolbox_black, "the image, no success"),
    ("torchattacks", "C&W, 100 added to all logits", torchattacks_constant(100.0), "the same as with -100"),
    ("torchattacks", "C&W, -100 added to all logits", torchattacks_constant(-100.0), "the same as with 100"),
    ("torchattacks", "C&W on black and white pixels", torchattacks_frozen, "broken, as grey ones are"),
    ("foolbox", f"{_BYTES} (DeepFool)", rounded_to_bytes(foolbox_deepfool), _BYTES_RIGHT),
    ("adv-lib", f"{_BYTES} (FMN)", rounded_to_bytes(advlib_fmn), _BYTES_RIGHT),
)
