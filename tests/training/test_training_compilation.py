"""torch.compile: the same training, faster or not; where it cannot work, a sentence before the first step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from audit.config import TrainingConfig
from audit.core.errors import SetupError
from audit.core.types import Batch
from audit.training.fit import fit
from tests.training.toy import tiny_net


@pytest.mark.slow
def test_a_compiled_training_ends_where_a_plain_one_does(examples: Batch, short: TrainingConfig) -> None:
    net, short = tiny_net(norm=True), short.model_copy(update={"optimizer": "sgd"})  # adam would enlarge rounding
    plain = fit(tiny_net(norm=True), examples, short, classes=3)
    made = fit(net, examples, short.model_copy(update={"compile": True}), classes=3)
    for name, weight in plain.weights.items():
        assert torch.allclose(made.weights[name].float(), weight.float(), atol=1e-3), name
    assert net._compiled_call_impl is None
    assert net(torch.rand(2, 1, 9, 9)).shape == (2, 3)


def test_where_compiling_fails_a_sentence_says_so_and_nothing_has_changed(
    examples: Batch, short: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: nn.Module) -> None:
        def call(*images: Any) -> Any:
            self.forward(*images).sum().backward()
            raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\nmore")

        self._compiled_call_impl = call

    monkeypatch.setattr(nn.Module, "compile", broken)
    net = tiny_net(norm=True)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(SetupError, match=r"No working C\+\+ compiler found\).*training.compile to false"):
        fit(net, examples, short.model_copy(update={"compile": True}), classes=3)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net._compiled_call_impl is None
    assert all(parameter.grad is None for parameter in net.parameters())
