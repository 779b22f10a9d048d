"""AttackBench's optimality of our attacks beside adv-lib's and foolbox's: 2,000 queries an image, the same model.

    pip install --no-deps attackbenchlib adv-lib
    python tests/benchmarks/attackbench_table.py --data fashion-mnist:DIR --images 64

AttackBench (arXiv:2404.19460) runs every attack inside its own counting model, which answers nothing after 2,000
forwards and backwards of an image, and remembers the nearest misclassified image of all that was asked. Optimality is
1 where an attack is as near as the best of all of them on every image. Its logging account is neither needed nor
asked: the loggers that the libraries import are stood in for where they are missing.

Ours see the counting model from inside `ModelUnderTest`, as any model: what we ask is counted, nothing else is.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import math
import sys
import time
import types
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from subjects import subjects
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from audit.adversarial.propose import propose
from audit.core.registry import find
from audit.core.seeding import Generators, content_ids
from audit.core.threat import ThreatModel
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest

QUERIES = 2000
STEPS = QUERIES // 2
WHOLE = {"linf": 1.0, "l2": 100.0, "l1": 3000.0, "l0": 3072.0}
Attack = Callable[..., Tensor]

OURS: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "linf": {
        "fab-t": ("fab-t", {"steps": 110, "stop": False}),
        "fmn": ("fmn", {"steps": STEPS - 2}),
    },
    "l2": {
        "ddn": ("ddn", {"steps": STEPS - 2}),
        "fmn": ("fmn", {"steps": STEPS - 2}),
        "fab-t": ("fab-t", {"steps": 110, "stop": False}),
        "carlini-wagner": ("carlini-wagner", {"binary_search_steps": 6, "steps": 160}),
    },
    "l1": {
        "pdpgd": ("pdpgd", {"steps": STEPS - 271}),
        "ead": ("ead", {"binary_search_steps": 6, "steps": 110}),
        "fab-t": ("fab-t", {"steps": 110, "stop": False}),
    },
    "l0": {"sigma-zero": ("sigma-zero", {"steps": STEPS - 25, "trials": 40})},
}
"""By norm and row, our attack and its settings, which spend the queries."""


_LOGGERS = ("wandb", "visdom")
"""What attackbenchlib and adv-lib log to, and nothing here does."""


def require_attackbench() -> Any:
    """The library, with a stand-in for each logger that is not installed."""
    for name in _LOGGERS:
        if importlib.util.find_spec(name) is None:
            sys.modules[name] = types.SimpleNamespace(Api=object, Artifact=object, Visdom=object)  # type: ignore[assignment]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        import attackbench
    return attackbench


def counting(net: nn.Module) -> nn.Module:
    """AttackBench's counting model, with its clamp to the box replaced by one that keeps the gradient on the faces.

    `torch.clamp` has gradient 0 exactly on a bound since torch 2.14, and had 1 before: under it AttackBench's own clamp
    hides black pixels from every gradient attack, and on these images C&W, which touches no face, comes out far ahead.
    """
    from attackbench.models.benchmodel_wrapper import BenchModel

    class Counting(BenchModel):  # type: ignore[misc]
        def forward(self, images: Tensor) -> Tensor:
            inside = (images >= 0) & (images <= 1)
            counted: Tensor = super().forward(torch.where(inside, images, images.detach().clamp(0, 1)))
            return counted

    return Counting(net, enforce_box=False)


def ours(name: str, norm: str, settings: dict[str, Any], plain: ModelUnderTest, model: nn.Module) -> Attack:
    """One of our attacks as AttackBench calls one: on its counting model, which takes the net's place inside ours."""

    def attack(model: nn.Module, inputs: Tensor, labels: Tensor, **_: Any) -> Tensor:
        plain.module.net = plain.net = model
        plain.layout.batch_size = len(inputs)
        batch = Batch(inputs, labels, content_ids(inputs))
        method = find("attack", name)
        draws = Generators.of(batch.ids, seed=0, purpose="attackbench", device="cpu")
        return propose(method, plain, batch, ThreatModel(norm, WHOLE[norm]), draws, method.settings(settings))  # type: ignore[arg-type]

    return attack


def peers(norm: str) -> dict[str, Attack]:
    """adv-lib's and foolbox's attacks of a norm, with the settings AttackBench gives them."""
    from adv_lib import attacks as adv

    order = {"linf": math.inf, "l2": 2, "l1": 1, "l0": 0}[norm]
    table: dict[str, Attack] = {"adv-lib fmn": partial(adv.fmn, norm=order, steps=STEPS)}
    if norm != "l0":
        alma = {"linf": 0.01, "l2": 0.1, "l1": 0.5}[norm]
        if norm != "linf":
            table["adv-lib alma"] = partial(adv.alma, distance=norm, num_steps=STEPS, α=0.9, init_lr_distance=alma)
        if norm != "l2":
            table["adv-lib pdpgd"] = partial(adv.pdpgd, norm=order, num_steps=STEPS)
            table |= _apgd(adv, norm)
    if norm == "l2":
        table["adv-lib ddn"] = partial(adv.ddn, steps=STEPS)
    if norm == "l0":
        table["adv-lib sigma-zero"] = partial(adv.sigma_zero, num_steps=STEPS)
        table["adv-lib pdpgd"] = partial(adv.pdpgd, norm=0, proximal_operator=23, num_steps=STEPS)
    return {name: _adv_lib(attack) for name, attack in table.items()} | _foolbox(norm)


def _apgd(adv: Any, norm: str) -> dict[str, Attack]:
    from attackbench.attacks import minimal_init_eps, minimal_search_steps
    from attackbench.attacks.adv_lib.wrapper import adv_lib_minimal_wrapper

    order = {"linf": math.inf, "l2": 2, "l1": 1}[norm]
    loose: dict[str, Any] = {"norm": order, "n_iter": 100, "n_restarts": 1, "loss_function": "dlr", "use_rs": True}
    rows = {}
    targeted = {"apgd-t": adv.apgd_targeted} if norm == "linf" else {}  # towards nine classes the queries do not last
    for name, attack in ({"apgd": adv.apgd} | targeted).items():
        rows[f"adv-lib {name}"] = partial(
            adv_lib_minimal_wrapper,
            attack=partial(attack, **loose, use_large_reps=norm == "l1"),
            init_eps=minimal_init_eps[norm],
            max_eps=1 if norm == "linf" else None,
            search_steps=minimal_search_steps,
        )
    return rows


def _adv_lib(attack: Attack) -> Attack:
    def call(model: nn.Module, inputs: Tensor, labels: Tensor, **_: Any) -> Tensor:
        return attack(model=model, inputs=inputs, labels=labels, targeted=False)

    return call


def _foolbox(norm: str) -> dict[str, Attack]:
    import foolbox

    a = foolbox.attacks
    table = {
        "linf": {"fmn": a.LInfFMNAttack(steps=STEPS - 2), "deepfool": a.LinfDeepFoolAttack(steps=50)},
        "l2": {
            "ddn": a.DDNAttack(steps=STEPS - 2),
            "fmn": a.L2FMNAttack(steps=STEPS - 2),
            "deepfool": a.L2DeepFoolAttack(steps=50),
        },
        "l1": {"fmn": a.L1FMNAttack(steps=STEPS - 2), "ead": a.EADAttack(binary_search_steps=9, steps=110)},
        "l0": {"fmn": a.L0FMNAttack(steps=STEPS - 2)},
    }[norm]

    def call(attack: Any, model: nn.Module, inputs: Tensor, labels: Tensor, **_: Any) -> Tensor:
        wrapped = foolbox.PyTorchModel(model.eval(), bounds=(0, 1), device="cpu")
        proposals: Tensor = attack(wrapped, inputs, labels, epsilons=None)[0]
        return torch.where(proposals.isfinite(), proposals, inputs)

    return {f"foolbox {name}": partial(call, attack) for name, attack in table.items()}


def measured(bench: Any, net: nn.Module, batch: Batch, norm: str, attack: Attack, name: str) -> dict[str, Any]:
    """AttackBench's own result of one attack, with its seconds."""

    def detached(**given: Any) -> Tensor:
        return attack(**given).detach().clone()  # AttackBench detaches in place, which no view allows

    loader = DataLoader(TensorDataset(batch.images, batch.labels), batch_size=len(batch))
    begun = time.perf_counter()
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()) as said:
        warnings.simplefilter("ignore")
        result: dict[str, Any] = bench.run_attack(
            model=counting(net),
            dataset=loader,
            attack=detached,
            threat_model=norm,
            device=torch.device("cpu"),
            query_budget=QUERIES,
        )
    if any(result["batch_failures"]):
        raise SystemExit(f"{name} failed in {norm}:\n{said.getvalue()[-2000:]}")
    result["seconds"] = time.perf_counter() - begun
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="sample")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--train-examples", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--subject", default="standard", choices=["standard", "adversarially trained"])
    parser.add_argument("--norms", default="linf,l2,l1,l0")
    parser.add_argument("--only", default="", help="rows that hold one of these texts, with commas between")
    parser.add_argument("--keep", type=Path, help="a folder for the distances, read again where they are there")
    chosen = parser.parse_args(arguments)
    bench = require_attackbench()
    nets, batch = subjects(chosen.data, chosen.images, train_examples=chosen.train_examples, epochs=chosen.epochs)
    net = nets[chosen.subject].requires_grad_(False)
    plain = under_counter(net, batch)
    console = Console()
    for norm in chosen.norms.split(","):
        rows: dict[str, Attack] = {
            f"audit {row}": ours(name, norm, settings, plain, net) for row, (name, settings) in OURS[norm].items()
        } | peers(norm)
        results = {}
        for name, attack in rows.items():
            kept = chosen.keep and chosen.keep / f"{chosen.subject}-{norm}-{name}-{chosen.images}.json".replace(
                " ", "_"
            )
            if kept and kept.is_file():
                results[name] = json.loads(kept.read_text())
                continue
            if not any(text in name for text in chosen.only.split(",")):
                continue
            results[name] = measured(bench, net, batch, norm, attack, name)
            console.print(f"{norm} {name}: {results[name]['seconds']:.0f} s", highlight=False)
            if kept:
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_text(json.dumps(results[name], default=str))
        console.print(table_of(norm, results))


def under_counter(net: nn.Module, batch: Batch) -> ModelUnderTest:
    """Our wrapper around the net, its gradient points looked for before anything is counted."""
    model = ModelUnderTest(
        net,
        classes=tuple(map(str, range(int(batch.labels.max()) + 1))),
        input_shape=(batch.images.shape[1], batch.images.shape[2], batch.images.shape[3]),
        device="cpu",
    )
    assert model.gradient_point == model.furthest_gradient_point.near
    return model


def table_of(norm: str, results: dict[str, dict[str, Any]]) -> Table:
    """One norm's attacks, the best first."""
    from attackbench.metrics.optimality import compute_local_optimality

    table = Table("attack", "optimality", "broken", "median distance", "queries", "seconds", title=norm)
    references = list(results.values())
    scores = {
        name: compute_local_optimality(result, reference_results=references, threat_model=norm, use_wandb=False)
        for name, result in results.items()
    }
    for name in sorted(scores, key=lambda name: -scores[name]["optimality"]):
        result = results[name]
        distances = torch.tensor(result["distances"][norm], dtype=torch.float64)
        queries = (torch.tensor(result["num_forwards"]) + torch.tensor(result["num_backwards"])).double().mean()
        table.add_row(
            name,
            f"{scores[name]['optimality']:.3f}",
            f"{float(distances.isfinite().double().mean()):.3f}",
            f"{float(distances.median()):.4g}",
            f"{float(queries):.0f}",
            f"{float(result['seconds']):.0f}",
        )
    return table


if __name__ == "__main__":
    main()
