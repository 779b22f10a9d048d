from functools import reduce
from pathlib import Path

import pytest

from audit.config import AttackRowConfig, load_config, run_config_type
from audit.core.errors import UsageError
from audit.core.topic import Topic, topics


def write(folder: Path, text: str) -> Path:
    path = folder / "audit.toml"
    path.write_text(text)
    return path


def test_flags_go_over_the_file_and_the_file_over_the_preset(tmp_path: Path) -> None:
    path = write(tmp_path, 'preset = "standard"\n[robustness]\nexamples = 77\neps = "8/255"\n')
    config = load_config(path, overrides={"robustness": {"norm": "l2"}})
    assert (config.robustness.battery, config.robustness.examples, config.robustness.norm) == ("standard", 77, "l2")
    assert config.robustness.eps == pytest.approx(8 / 255)
    assert load_config(path, preset="quick").robustness.battery == "quick"


def test_no_configuration_is_the_quick_preset() -> None:
    assert load_config() == run_config_type()()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed = 0\n[robustness]\nexampels = 3\n", ["line 3", "robustness.exampels", "'examples'"]),
        ("sede = 0\n", ["line 1", "sede", "'seed'"]),
        ('[robustness]\n\nnorm = "l7"\n', ["line 3", "robustness.norm", "'linf'", "'l7'"]),
        ("[training]\nepochs = 0\n", ["line 2", "training.epochs", "greater than or equal to 1"]),
        ("[data]\nsource = 3\n", ["line 2", "data.source", "string"]),
        ('preset = "fast"\n', ["preset", "quick", "standard", "full"]),
        ("seed = \n", ["not valid TOML", "line 1"]),
        ("[robustness]\neps = 0\n", ["line 2", "robustness.eps", "greater than 0"]),
    ],
)
def test_a_wrong_key_names_file_line_key_and_remedy(tmp_path: Path, text: str, words: list[str]) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        load_config(path)
    for word in words:
        assert word in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent\.toml"):
        load_config(tmp_path / "absent.toml")


def test_a_wrong_flag_is_named_without_a_file() -> None:
    with pytest.raises(UsageError, match=r"robustness\.norm"):
        load_config(overrides={"robustness": {"norm": "l7"}})


def test_a_battery_is_a_name_or_tables_of_attacks(tmp_path: Path) -> None:
    rows = """
        [[robustness.battery]]
        attack = "apgd-ce"
        settings = { steps = 30 }
        [[robustness.battery]]
        attack = "square"
        title = "check"
        sample = 16
    """
    first, second = load_config(write(tmp_path, rows)).robustness.battery
    assert isinstance(first, AttackRowConfig) and isinstance(second, AttackRowConfig)
    assert (first.attack, first.settings, first.title, first.hardest) == ("apgd-ce", {"steps": 30}, "", 1.0)
    assert (second.attack, second.title, second.sample) == ("square", "check", 16)
    assert load_config(overrides={"robustness": {"battery": ["fgsm"]}}).robustness.battery == (
        AttackRowConfig(attack="fgsm"),
    )


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"attak": "fgsm"}, ["robustness.battery", "attack 1"]),
        ({"attack": "fgsm", "hardst": 0.3}, ["attack 1", "Did you mean 'hardest'"]),
        ({"attack": "fgsm", "hardest": 3}, ["attack 1", "hardest", "less than or equal to 1"]),
    ],
)
def test_a_wrong_row_of_a_battery_is_named(row: dict[str, object], words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        load_config(overrides={"robustness": {"battery": [row]}})
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_battery_without_attacks_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one attack"):
        load_config(overrides={"robustness": {"battery": []}})


FORMER = [(topic, former, current) for topic in topics() for former, current in topic.former_keys.items()]


def nested(key: str, value: object) -> dict[str, object]:
    table, name = key.split(".")
    return {table: {name: value}}


def other_value(key: str) -> object:
    """A value that is allowed at a key and not the one it has."""
    value = reduce(getattr, key.split("."), load_config())
    return not value if isinstance(value, bool) else value + 3 if isinstance(value, int) else value / 2


@pytest.mark.parametrize(("topic", "former", "current"), FORMER, ids=[former for _, former, _ in FORMER])
def test_a_former_key_is_the_present_one(topic: Topic, former: str, current: str, tmp_path: Path) -> None:
    value = other_value(current)
    wanted = load_config(preset="standard", overrides=nested(current, value))
    assert wanted != load_config(preset="standard") or topic.presets["standard"][current.split(".")[1]] == value
    table, name = former.split(".")
    path = write(tmp_path, f'preset = "standard"\n[{table}]\n{name} = {str(value).lower()}\n')
    assert load_config(path) == wanted
    assert load_config(preset="standard", overrides=nested(former, value)) == wanted


def test_every_key_that_moved_is_still_read() -> None:
    """Those of 0.1.0: none may be dropped."""
    assert {former for _, former, _ in FORMER} >= {
        "explanations.calibration",
        "explanations.drift",
        "explanations.judging",
        "explanations.shortcut_examples",
        "robustness.backdoor_examples",
        "robustness.certified_examples",
        "robustness.control_examples",
        "robustness.further_examples",
        "robustness.patch_area",
        "robustness.rotation",
        "robustness.translation",
    }


def test_a_present_key_goes_over_a_former_one_and_a_flag_over_both(tmp_path: Path) -> None:
    path = write(tmp_path, "[robustness]\nbackdoor_examples = 5\n[backdoor]\nexamples = 7\n")
    assert load_config(path).backdoor.examples == 7  # type: ignore[attr-defined]
    flag = {"robustness": {"backdoor_examples": 9}}
    assert load_config(path, overrides=flag).backdoor.examples == 9  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[backdoor]\nexampels = 3\n", ["line 2", "backdoor.exampels", "'examples'"]),
        ("[bakdoor]\nexamples = 3\n", ["bakdoor", "'backdoor'"]),
        ("[robustness]\nbackdoor_exampels = 3\n", ["line 2", "robustness.backdoor_exampels", "Known: "]),
        ("[other_threats]\npatch_aera = 0.1\n", ["line 2", "other_threats.patch_aera", "'patch_area'"]),
        ("\n[robustness]\nbackdoor_examples = -1\n", ["line 3", "backdoor.examples", "greater than or equal to 0"]),
    ],
)
def test_a_wrong_key_of_a_topic_names_file_line_key_and_remedy(tmp_path: Path, text: str, words: list[str]) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        load_config(path)
    for word in [str(path), *words]:
        assert word in str(caught.value)
