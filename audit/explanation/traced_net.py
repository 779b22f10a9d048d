"""A copy of the net traced by torch.fx, in which every activation is a module of its own and called once.

Methods that hook activations are silently wrong on functional, in-place or reused ones: a hook sees nothing, or the
wrong call. torch.fx rewrites these on the copy; a layer for which a method has no rule is refused by name.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from audit.core.errors import NotApplicable
from audit.core.note import note
from audit.core.types import Images, Labels
from audit.explanation.captum_guard import restored
from audit.explanation.in_place import without_in_place_calls
from audit.models.module_copy import copy_module
from audit.models.under_test import ModelUnderTest

_AS_MODULE: Mapping[Any, type[nn.Module]] = {
    functional.relu: nn.ReLU,
    torch.relu: nn.ReLU,
    "relu": nn.ReLU,
    functional.elu: nn.ELU,
    functional.leaky_relu: nn.LeakyReLU,
    functional.softplus: nn.Softplus,
    torch.sigmoid: nn.Sigmoid,
    functional.sigmoid: nn.Sigmoid,
    "sigmoid": nn.Sigmoid,
    torch.tanh: nn.Tanh,
    functional.tanh: nn.Tanh,
    "tanh": nn.Tanh,
    functional.gelu: nn.GELU,
    functional.silu: nn.SiLU,
    functional.max_pool2d: nn.MaxPool2d,
}
"""Functional activations and pools, with the module that does the same from the same arguments."""
ACTIVATIONS = (nn.ReLU, nn.ELU, nn.LeakyReLU, nn.Softplus, nn.Sigmoid, nn.Tanh, nn.GELU, nn.SiLU, nn.ReLU6)
SHAPING = {
    torch.flatten,
    "flatten",
    "view",
    "reshape",
    "contiguous",
    "size",
    "mean",
    torch.mean,
    torch.reshape,
    operator.getitem,
    "permute",
    "transpose",
    "squeeze",
    "unsqueeze",
    functional.dropout,
    functional.avg_pool2d,
    functional.adaptive_avg_pool2d,
    torch.cat,
    torch.pixel_shuffle,
    torch.pixel_unshuffle,
    torch.channel_shuffle,
    torch.flip,
    torch.roll,
    torch.squeeze,
    torch.unsqueeze,
    torch.permute,
    torch.transpose,
    functional.pixel_shuffle,
    functional.pixel_unshuffle,
    functional.channel_shuffle,
    "flip",
    "expand",
    "expand_as",
    "view_as",
    "unflatten",
    getattr,
}
"""Calls that are linear in the features, or do not touch them."""
SUMS = {operator.add, torch.add, "add", operator.sub, torch.sub, "sub"}
_PRODUCTS = {operator.mul, torch.mul, "mul"}
_QUOTIENTS = {operator.truediv, torch.div, "div"}
"""With the products, linear in the features where the other operand is a number."""
_RECTIFIERS = (nn.ReLU, nn.ReLU6)
_PROBE = (-9.0, 9.0, 145)
"""Where a call is compared with a rectifier: from, to, and in how many points, 0 and 6 among them."""


class ActivationRecorder(fx.Interpreter):
    """Runs the net and keeps the output of every node."""

    def __init__(self, net: fx.GraphModule) -> None:
        """An empty record.

        Args:
            net: The traced net.
        """
        super().__init__(net)
        self.values: dict[fx.Node, Any] = {}

    def run_node(self, node: fx.Node) -> Any:
        """The node's output, which is kept in `values`.

        Args:
            node: A node of the net's graph.
        """
        self.values[node] = super().run_node(node)
        return self.values[node]


def with_module_activations(net: nn.Module) -> fx.GraphModule:
    """A traced copy in eval mode, functional and in-place activations replaced by modules, each called once.

    Args:
        net: The net, which stays as it is.

    Raises:
        NotApplicable: torch.fx cannot trace the net, because its forward depends on the pixels' values.
    """
    try:
        graph = fx.symbolic_trace(copy_module(net))
    except Exception as fault:
        raise NotApplicable(
            note(
                "untraceable",
                "{net} cannot be traced ({why}), so its activations cannot be checked; methods that need no hooks on "
                "activations apply.",
                net=type(net).__name__,
                why=str(fault).strip().split("\n", 1)[0].split(". ", 1)[0].rstrip(".") or type(fault).__name__,
            )
        ) from fault
    names = iter(range(10**6))
    visited: set[str] = set()
    without_in_place_calls(graph)
    for node in list(graph.graph.nodes):
        if node.op == "call_module":
            _separate(graph, node, visited, names)
        elif node.op in ("call_function", "call_method"):
            rectifier = None if node.target in _AS_MODULE else _rectifier_of(node)
            if rectifier is not None:
                _call_module(graph, node, rectifier, node.args[0], names)
            elif node.target in _AS_MODULE:
                _modularise(graph, node, names)
    for layer in graph.modules():
        if getattr(layer, "inplace", False):
            setattr(layer, "inplace", False)  # noqa: B010  (only some layers have it)
    graph.graph.lint()
    graph.recompile()
    return graph.eval()


def check_supported_layers(graph: fx.GraphModule, supported: tuple[type[nn.Module], ...], method: str) -> None:
    """Refuse a net that holds a layer or a call for which the method has no rule.

    Args:
        graph: The traced net.
        supported: The kinds of layer for which there is a rule; calls of `SHAPING` and `SUMS` always have one.
        method: Its name, for the error.

    Raises:
        NotApplicable: There is such a layer or call; it is named.
    """
    layers = dict(graph.named_modules())
    for node in graph.graph.nodes:
        if node.op == "call_module" and not isinstance(layers[str(node.target)], supported):
            kind = type(layers[str(node.target)]).__name__
            raise NotApplicable(
                note(
                    "no_rule",
                    "{method} has no rule for layer '{layer}' ({kind}); its map would be wrong.",
                    method=method,
                    layer=str(node.target),
                    kind=kind,
                )
            )
        if node.op in ("call_function", "call_method") and not (node.target in SHAPING | SUMS or _scales(node)):
            called = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "a function")
            raise NotApplicable(
                note(
                    "no_rule_call",
                    "{method} has no rule for the call '{called}' (node '{node}') of the forward.",
                    method=method,
                    called=called,
                    node=node.name,
                )
            )


def _scales(node: fx.Node) -> bool:
    """Whether the call multiplies or divides features by a number."""
    if len(node.all_input_nodes) != 1 or len(node.args) != 2 or all(isinstance(a, fx.Node) for a in node.args):
        return False
    return node.target in _PRODUCTS or (node.target in _QUOTIENTS and isinstance(node.args[0], fx.Node))


@contextmanager
def swapped_net(model: ModelUnderTest, net: nn.Module) -> Iterator[None]:
    """Within the context the model runs another net, counted and normalised as before.

    Args:
        model: The model, whose net is put back afterwards.
        net: The net to run.
    """
    with restored(model):
        model.module.net = net
        yield


def normalised(model: ModelUnderTest, images: Images) -> Tensor:
    """The input of the net inside the model, (N, C, H, W).

    Args:
        model: The model, with the mean and the standard deviation of its normalisation.
        images: Float32 (N, C, H, W) in [0, 1].
    """
    return (images - model.module.mean) / model.module.std


def target_logits(model: ModelUnderTest, outputs: Tensor, targets: Labels) -> Tensor:
    """Each row's target logit, (N,), counted as N forwards, and as N backwards when it is differentiated.

    Args:
        model: The model that counts, and says what kind its outputs are.
        outputs: What the traced net gave, (N, ...).
        targets: int64 (N,).
    """
    model.meter.forwards += len(outputs)
    logits = model.reader(outputs, len(targets))
    if logits.requires_grad:
        logits.register_hook(model.module._count_backward)  # type: ignore[no-untyped-call]
    return logits.gather(1, targets[:, None]).squeeze(1)


def _separate(graph: fx.GraphModule, node: fx.Node, visited: set[str], names: Iterator[int]) -> None:
    """A module called a second time is copied for that call."""
    target = str(node.target)
    if target in visited and not list(graph.get_submodule(target).parameters()):
        copy_name = f"_again_{next(names)}"
        graph.add_submodule(copy_name, copy.deepcopy(graph.get_submodule(target)))
        node.target = copy_name
    visited.add(target)


def _modularise(graph: fx.GraphModule, node: fx.Node, names: Iterator[int]) -> None:
    kind = _AS_MODULE[node.target]
    options = {key: value for key, value in node.kwargs.items() if key not in ("input", "inplace", "return_indices")}
    features = node.args[0] if node.args else node.kwargs["input"]
    build: Callable[..., nn.Module] = kind
    _call_module(graph, node, build(*node.args[1:], **options), features, names)


def _rectifier_of(node: fx.Node) -> nn.Module | None:
    """The rectifier that the call is in other words, such as `clamp(min=0)`, found by its values; None for none."""
    if not node.args or not isinstance(node.args[0], fx.Node) or len(node.all_input_nodes) != 1:
        return None
    probe = torch.linspace(*_PROBE, device="cpu")
    call: Any = getattr(Tensor, node.target, None) if isinstance(node.target, str) else node.target
    try:
        values = call(probe, *node.args[1:], **node.kwargs)
        if not isinstance(values, Tensor) or values.shape != probe.shape:
            return None
    except Exception:  # it is no function of one number
        return None
    return next((kind() for kind in _RECTIFIERS if torch.equal(kind()(probe), values)), None)


def _call_module(graph: fx.GraphModule, node: fx.Node, layer: nn.Module, features: Any, names: Iterator[int]) -> None:
    """The layer in place of the node."""
    name = f"_{type(layer).__name__.lower()}_{next(names)}"
    graph.add_submodule(name, layer)
    with graph.graph.inserting_after(node):
        call = graph.graph.call_module(name, (features,))
    node.replace_all_uses_with(call)
    graph.graph.erase_node(node)
