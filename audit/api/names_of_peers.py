"""Arguments under the names that captum, foolbox, shap and lime give them: the sentence names ours."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from audit.core.errors import UsageError, nearest
from audit.core.registry import Kind, methods

_KINDS: tuple[Kind, ...] = ("attack", "attribution")
"""Methods whose settings a public function takes."""
_OURS: Mapping[str, tuple[str, ...]] = {
    "inputs": ("images",),
    "input": ("images",),
    "x": ("images",),
    "data": ("images",),
    "y": ("labels",),
    "label": ("labels",),
    "target": ("targets",),
    "criterion": ("targets", "labels"),
    "attributions": ("maps",),
    "attribution": ("maps",),
    "saliency": ("maps",),
    "baselines": ("baseline",),
    "hide_color": ("baseline",),
    "feature_mask": ("segments",),
    "segmentation_fn": ("segments",),
    "background": ("references",),
    "random_state": ("seed",),
    "random_seed": ("seed",),
    "epsilon": ("threat", "eps"),
    "epsilons": ("threat", "eps"),
    "eps": ("threat",),
    "norm": ("threat",),
    "fmodel": ("model",),
    "forward_func": ("model",),
    "attack": ("method", "attacks"),
    "corruption": ("method",),
    "corruption_name": ("method",),
    "n_steps": ("steps",),
    "num_steps": ("steps",),
    "nsamples": ("samples",),
    "n_samples": ("samples",),
    "num_samples": ("samples",),
    "max_evals": ("samples",),
    "nt_samples": ("samples",),
    "sliding_window_shapes": ("window",),
    "strides": ("stride",),
    "n_queries": ("queries",),
    "n_restarts": ("restarts",),
}
"""By a peer's name, ours: the first of them that the function, or the method it was asked for, has."""


def refuse_names_of_peers(door: str, signature: inspect.Signature, named: Mapping[str, Any]) -> None:
    """Refuse an argument that the function does not have, and name the one that was meant.

    Args:
        door: The function as a user writes it, such as "audit.explain".
        signature: Its signature.
        named: The arguments given by name.

    Raises:
        UsageError: There is one that neither the function nor the method it was asked for has. Where the function takes
            a method's settings, only a name of a peer is refused here: the method refuses the others itself.
    """
    own = [name for name, p in signature.parameters.items() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    takes_settings = len(own) < len(signature.parameters)
    foreign = [name for name in named if name not in own]
    method = named.get("method", signature.parameters["method"].default if "method" in own else None)
    settings = _settings_of(method) if takes_settings and foreign else []
    for name in foreign:
        if name in settings:
            continue
        ours = next((ours for ours in _OURS.get(name, ()) if ours in own or ours in settings), None)
        if ours is not None:
            raise UsageError(f"{door} has no argument {name!r}. {_advice(ours)}")
        if not takes_settings:
            raise UsageError(f"{door} has no argument {name!r}.{nearest(name, own)} It has {', '.join(own)}.")


def _settings_of(method: Any) -> list[str]:
    """Those of every method of that name."""
    if not isinstance(method, str):
        return []
    return [setting for kind in _KINDS for m in methods(kind) if m.name == method for setting in m.defaults]


def _advice(ours: str) -> str:
    if ours == "threat":
        return "The threat model holds norm and eps: threat=audit.ThreatModel('linf', 8 / 255)."
    return f"It is called {ours!r} here."
