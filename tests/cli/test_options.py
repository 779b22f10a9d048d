import inspect
from typing import Annotated, Any, Literal

import pytest
import typer
from pydantic import BaseModel, Field
from typer.testing import CliRunner, Result

from audit.cli.app import app
from audit.cli.options import command, overrides
from audit.cli.run_command import RunRequest
from audit.cli.terminal import Terminal
from audit.config import RunConfig
from audit.config.flags import AUDIT_FLAGS, Flag, flags_of
from audit.core.errors import UsageError


class Triggers(BaseModel):
    """A table as a plug-in brings it."""

    examples: Annotated[int, Flag("--trigger-examples")] = Field(8, ge=1, le=50, description="images searched")
    shape: Annotated[Literal["square", "disc"], Flag("--trigger-shape")] = Field("square", description="its outline")
    quiet: int = Field(3, description="without a flag")


class Whole(BaseModel):
    seed: Annotated[int, Flag("--seed")] = 0
    triggers: Triggers = Triggers()


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def request_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What `audit WORDS` would run, without running it."""

    def read(*words: object) -> RunRequest:
        requests: list[RunRequest] = []
        monkeypatch.setattr("audit.cli.run_command.run_and_report", lambda request, terminal: requests.append(request))
        shown = call(*words)
        assert requests, shown.output
        return requests[0]

    return read


def test_any_model_brings_its_flags_with_the_tables_it_lies_in() -> None:
    assert [(item.key, item.names) for item in flags_of(Triggers, prefix="topics.triggers")] == [
        ("topics.triggers.examples", ["--trigger-examples"]),
        ("topics.triggers.shape", ["--trigger-shape"]),
    ]
    assert [item.key for item in flags_of(Whole, ("triggers", "seed"))] == [
        "triggers.examples",
        "triggers.shape",
        "seed",
    ]
    with pytest.raises(ValueError, match=r"triggers\.quiet"):
        flags_of(Whole, ("triggers.quiet",))


def test_a_command_takes_the_flags_of_any_model_and_hands_on_what_was_set() -> None:
    received: list[dict[str, Any]] = []

    @command("triggers", any_key=True, model=Whole)
    def search(terminal: Terminal, overrides: dict[str, Any], again: bool = False) -> None:
        """Search."""
        received.append(overrides | {"again": again})

    plugin = typer.Typer()
    plugin.command()(search)
    runner = CliRunner()
    assert set(inspect.signature(search).parameters) >= {"trigger_examples", "trigger_shape", "settings", "again"}
    assert runner.invoke(plugin, []).exit_code == 0
    words = ["--trigger-examples", "9", "--trigger-shape", "disc", "--set", "triggers.quiet=4"]
    assert runner.invoke(plugin, words).exit_code == 0
    assert received == [
        {"again": False},
        {"triggers": {"examples": 9, "shape": "disc", "quiet": 4}, "again": False},
    ]
    help_text = runner.invoke(plugin, ["--help"], env={"COLUMNS": "200"}).stdout
    assert "Images searched; at least 1, at most 50." in help_text and "square|disc" in help_text
    assert "Triggers" in help_text and "[default: (8)]" in help_text


@pytest.mark.parametrize(
    ("flag", "text", "sentence"),
    [
        ("--trigger-examples", "0", "--trigger-examples '0' should be greater than or equal to 1."),
        ("--trigger-examples", "51", "--trigger-examples '51' should be less than or equal to 50."),
        ("--trigger-examples", "few", "--trigger-examples 'few' should be a valid integer"),
        (
            "--trigger-shape",
            "squar",
            "Unknown value of --trigger-shape 'squar'. Did you mean 'square'? Known: disc, square.",
        ),
    ],
)
def test_the_field_of_a_key_judges_its_flag(flag: str, text: str, sentence: str) -> None:
    [item] = [item for item in flags_of(Triggers) if item.names == [flag]]
    with pytest.raises(UsageError) as refused:
        item.parse(text)
    assert str(refused.value).startswith(sentence)


def test_a_flag_sets_every_key_that_declares_it() -> None:
    flags = flags_of(RunConfig, AUDIT_FLAGS)
    assert overrides(flags, {"examples": "40"}) == {"robustness": {"examples": 40}, "corruptions": {"examples": 40}}
    assert overrides(flags, {"detail": "normal"}) == {"report": {"gallery": 16}}
    assert overrides(flags, {"detail": "high"}) == {"report": {"gallery": 200}, "explanations": {"examples": 200}}
    with pytest.raises(UsageError, match=r"Unknown detail 'hihg'.*Known: high, normal"):
        overrides(flags, {"detail": "hihg"})


def test_attacks_are_a_battery_and_two_batteries_are_refused() -> None:
    flags = flags_of(RunConfig, AUDIT_FLAGS)
    assert overrides(flags, {"attacks": "pgd,square"}) == {"robustness": {"battery": "pgd,square"}}
    with pytest.raises(UsageError, match=r"--battery and --attacks set the same key, robustness\.battery"):
        overrides(flags, {"attacks": "pgd", "battery": "quick"})


def test_set_goes_over_flags() -> None:
    flags = flags_of(RunConfig, AUDIT_FLAGS)
    assert overrides(flags, {"seed": "3"}, ["seed = 4"]) == {"seed": 4}


def test_every_flag_of_a_run_reaches_its_configuration(request_of: Any) -> None:
    words = "--preset standard --seed 7 --device cpu --only robustness --only accuracy --no-harden --data folder:pets "
    words += "--image-size 32 --crop .875 --grayscale --rotate -30 --flip horizontal --labels-map map.txt --strict "
    words += "--interpolation bicubic --pixel-range -1024,3071 --transparency white "
    words += "--test-share .25 --path-column file --label-column kind --split-column fold --mask-column outline "
    words += "--model net.pt --architecture net.py:make --mean .1,.2,.3 --std .5 --trust net.py --trust other.py "
    words += "--examples 40 --battery full --norm l2 --eps 8/255 --no-images --detail high --out there --gate"
    request: RunRequest = request_of("run", *words.split())
    config = request.config
    assert (config.preset, config.seed, config.device, config.only) == (
        "standard",
        7,
        "cpu",
        ("robustness", "accuracy"),
    )
    assert config.data.model_dump(exclude={"train_examples"}) == {
        "test_share": 0.25,
        "path_column": "file",
        "label_column": "kind",
        "split_column": "fold",
        "mask_column": "outline",
        "source": "folder:pets",
        "image_size": 32,
        "crop": 0.875,
        "interpolation": "bicubic",
        "pixel_range": (-1024.0, 3071.0),
        "transparency": "white",
        "grayscale": True,
        "rotate": -30.0,
        "flip": "horizontal",
        "labels_map": "map.txt",
        "strict": True,
    }
    assert (config.model.weights, config.model.architecture) == ("net.pt", "net.py:make")
    assert (config.model.mean, config.model.std) == ((0.1, 0.2, 0.3), (0.5,))
    assert [trusted.path for trusted in config.model.trust] == ["net.py", "other.py"]
    assert config.robustness.examples == config.corruptions.examples == 40
    assert (config.robustness.battery, config.robustness.norm, config.robustness.eps) == ("full", "l2", 8 / 255)
    assert (config.report.images, config.report.gallery, config.explanations.examples) == (False, 200, 200)
    assert not config.hardening.enabled and request.gate and str(request.out) == "there"


def test_every_flag_of_a_training_reaches_its_configuration(request_of: Any) -> None:
    words = "--recipe trades --epochs 3 --batch-size 32 --optimizer sgd --learning-rate 0.1 --augmentation jitter "
    words += "--frozen-epochs 1 --backbone-rate .1 --shares 4 --nproc 2 --tensorboard --time-budget 1.5m "
    words += "--pretrained net.pth"
    request: RunRequest = request_of("train", *words.split())
    training = request.config.training
    assert (training.recipe, training.epochs, training.batch_size, training.optimizer) == ("trades", 3, 32, "sgd")
    assert (training.learning_rate, training.augmentation.crop, training.frozen_epochs) == (0.1, 2, 1)
    assert (training.backbone_rate, training.shares, training.nproc, training.tensorboard) == (0.1, 4, 2, True)
    assert (training.time_budget, request.config.model.pretrained) == (90.0, "net.pth")
    assert not request.config.hardening.enabled and request.scope == "train"


@pytest.mark.parametrize("words", [["--preset", "standard"], ["--set", "preset='standard'"]])
def test_a_preset_lies_under_every_key(words: list[str], request_of: Any) -> None:
    config = request_of("run", *words, "--set", "training.epochs=2").config
    assert (config.preset, config.training.epochs, config.robustness.battery) == ("standard", 2, "standard")
