"""What a plan must know of the data and the model, all of it identities and sizes; and the eps that follow."""

from __future__ import annotations

from dataclasses import dataclass

from audit.config import RunConfig


@dataclass(frozen=True)
class RunIdentity:
    """`train` and `test` are fingerprints, with `train_examples` and `test_examples` behind them; `loaded` is the
    identity of a model that came as a file, None where one is trained; `pretrained` the SHA-256 of the weights that
    training starts from, "" for none; `masked` whether the test images say where their objects lie;
    `labelled` false where their labels are what the loaded model predicts."""

    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    test: str
    test_examples: int
    architecture: str
    train: str = ""
    train_examples: int = 0
    loaded: str | None = None
    pretrained: str = ""
    masked: bool = False
    labelled: bool = True

    @property
    def default_eps(self) -> float:
        """0.1 on grey images (Wong and Kolter 2018), 8/255 on colour (RobustBench)."""
        return 0.1 if self.shape[0] == 1 else 8 / 255


def headline_eps(config: RunConfig, identity: RunIdentity) -> float:
    """The eps of the verdict."""
    return config.robustness.eps or identity.default_eps


def curve_eps(config: RunConfig, identity: RunIdentity) -> tuple[float, ...]:
    """The eps of the curve, rising, the headline's among them."""
    headline = headline_eps(config, identity)
    spread = tuple(headline * factor for factor in (0.125, 0.25, 0.5, 2.0) if headline * factor <= 1)
    return tuple(sorted({*(config.robustness.curve or spread), headline}))
