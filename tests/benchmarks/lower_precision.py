"""What bfloat16 and torch.compile gain on this processor: `python tests/benchmarks/lower_precision.py NET:SIDE:BATCH`

NET is one of the zoo or of torchvision, with random weights. Printed for each is how long bfloat16 (and, with
--compiled, torch.compile in float32) takes as a share of plain float32: a forward, the gradient of images (a step of a
search), and that of weights (a step of a training). All forms are asked in turn, and the fastest of each counts.

    python tests/benchmarks/lower_precision.py cnn-28:28:48 resnet18:224:8 mobilenet_v2:224:8
    python tests/benchmarks/lower_precision.py --compiled cnn-28:28:64 resnet18:224:8
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from audit.core.startup import prepare_process

prepare_process()

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from audit.models.architecture import ZOO, build  # noqa: E402
from audit.models.batching import set_memory_format  # noqa: E402
from audit.models.precision import bfloat16_autocast  # noqa: E402

CLASSES = 10
CHANNELS = {"cnn-28": 1}
Forward = Callable[[Tensor], Tensor]


def net_of(name: str, side: int) -> tuple[nn.Module, int]:
    """The net and the channels of its images."""
    channels = CHANNELS.get(name, 3)
    if name in ZOO:
        return build(name, classes=CLASSES, input_shape=(channels, side, side), seed=0), channels
    import torchvision

    torch.manual_seed(0)
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    return getattr(torchvision.models, name)(weights=None, num_classes=CLASSES, **options), channels


def in_bfloat16(net: Forward) -> Forward:
    """The net in mixed precision."""

    def forward(images: Tensor) -> Tensor:
        with bfloat16_autocast(images.device):
            return net(images)

    return forward


def ways(net: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Callable[[Forward], object]]:
    """What is timed, by name."""

    def loss(form: Forward, given: Tensor) -> Tensor:
        return nn.functional.cross_entropy(form(given).float(), labels)

    def forward(form: Forward) -> object:
        net.eval().requires_grad_(False)
        with torch.no_grad():
            return form(images)

    def of_images(form: Forward) -> object:
        net.eval().requires_grad_(False)
        leaf = images.clone().requires_grad_(True)
        return torch.autograd.grad(loss(form, leaf), leaf)

    def of_weights(form: Forward) -> object:
        net.train().requires_grad_(True)
        return torch.autograd.grad(loss(form, images), list(net.parameters()), allow_unused=True)

    return {"forward": forward, "images": of_images, "weights": of_weights}


def seconds(act: Callable[[], object]) -> float:
    """How long it takes."""
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def row(what: str, rounds: int, *, compiled: bool) -> str:
    """A line of the table."""
    name, side, batch = what.split(":")
    net, channels = net_of(name, int(side))
    set_memory_format(net, channels_last=True)
    images = torch.rand(int(batch), channels, int(side), int(side), generator=torch.Generator().manual_seed(0))
    images, labels = images.contiguous(memory_format=torch.channels_last), torch.arange(int(batch)) % CLASSES
    forms: dict[str, Forward] = {"float32": net, "bfloat16": in_bfloat16(net)}
    if compiled:
        forms["compiled"] = torch.compile(net)
    cells = []
    for act in ways(net, images, labels).values():
        first = {form: seconds(lambda f=forward, a=act: a(f)) for form, forward in forms.items()}
        best = dict.fromkeys(forms, float("inf"))
        for _ in range(rounds):
            for form, forward in forms.items():
                best[form] = min(best[form], seconds(lambda f=forward, a=act: a(f)))
        cells += [f"{best[form] / best['float32']:.2f}" for form in forms if form != "float32"]
        if compiled:
            cells.append(f"{first['compiled']:.0f} s")
    return f"| {name}, {side} px, batch {batch} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="+", metavar="NET:SIDE:BATCH")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compiled", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    kinds = ["forward", "gradient of images", "gradient of weights"]
    each = ["bfloat16", "compiled", "first call"] if given.compiled else ["bfloat16"]
    heads = [f"{kind}: {form}" for kind in kinds for form in each]
    print(f"| net | {' | '.join(heads)} |\n|{'---|' * (len(heads) + 1)}")
    for what in given.nets:
        print(row(what, given.rounds, compiled=given.compiled), flush=True)


if __name__ == "__main__":
    main()
