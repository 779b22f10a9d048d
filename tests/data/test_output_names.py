"""Names of a model's outputs: the forms that people keep them in, names that stand twice, and other spellings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audit.core.errors import DataError
from audit.data.arrays import array_split
from audit.data.dataset import Dataset
from audit.data.label_map import align_to_model, class_names, remap_labels

TENCH = ("tench, Tinca tinca", "goldfish, Carassius auratus", "crane", "crane", "great white shark, white shark")
FORMS = {
    "a name a line": ("x.txt", "\n".join(TENCH)),
    "numbers first": ("x.txt", "\n".join(f"{i} {name}" for i, name in enumerate(TENCH))),
    "numbers from one": ("x.txt", "\n".join(f"{i}: {name}" for i, name in enumerate(TENCH, start=1))),
    "a printed dictionary": ("x.txt", "{" + ",\n ".join(f"{i}: {name!r}" for i, name in enumerate(TENCH)) + "}"),
    "WordNet numbers": ("x.txt", "\n".join(f"n0144076{i} {name}" for i, name in enumerate(TENCH))),
    "a list": ("x.json", json.dumps(TENCH)),
    "number to name": ("x.json", json.dumps(dict(enumerate(TENCH)))),
    "number to names": ("x.json", json.dumps({i: [f"n0144076{i}", name] for i, name in enumerate(TENCH)})),
    "numbers as fractions": ("x.json", json.dumps([{"id": float(i), "name": name} for i, name in enumerate(TENCH)])),
    "names under a key": ("x.json", json.dumps({"nc": 5, "names": TENCH})),
    "a header": ("x.csv", "\n".join(("name", *TENCH))),
    "a remark and quotes": ("x.txt", "# of ImageNet\n" + "\n".join(f'"{name}"' for name in TENCH)),
    "a printed list": ("x.txt", str(list(TENCH))),
    "numbers last": ("x.txt", "\n".join(f"{name} {i}" for i, name in enumerate(TENCH))),
    "a configuration": ("x.json", json.dumps({"id2label": dict(enumerate(TENCH)), "model_type": "resnet"})),
}


def data_of(*classes: str) -> Dataset:
    labels = np.arange(2 * len(classes)) % len(classes)
    images = np.zeros((len(labels), 8, 8), np.uint8)
    split = array_split(images, labels, name="test", classes=len(classes), source="made")
    return Dataset("made", classes, (1, 8, 8), split)


def test_a_list_in_utf_16_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("Hund\r\nK\u00e4tzchen\r\n", encoding="utf-16")
    assert class_names(str(tmp_path / "x.txt")) == ("Hund", "K\u00e4tzchen")


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_list_gives_its_names_twice_or_once(form: str, tmp_path: Path) -> None:
    name, text = FORMS[form]
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert class_names(str(tmp_path / name)) == TENCH
    mapped = remap_labels(data_of("Goldfish", "tench", "white_shark"), str(tmp_path / name))
    assert mapped.classes == TENCH and mapped.test.labels.tolist() == [1, 0, 4, 1, 0, 4]
    with pytest.raises(DataError, match=r"'crane' to the outputs 2 and 3"):
        remap_labels(data_of("crane", "tench"), str(tmp_path / name))


def test_folders_of_wordnet_numbers_find_their_outputs(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(FORMS["number to names"][1])
    mapped = remap_labels(data_of("n01440762", "n01440763"), str(tmp_path / "x.json"))
    assert mapped.test.labels.tolist() == [2, 3, 2, 3]


@pytest.mark.parametrize(
    ("classes", "labels"), [("123", [0, 1, 2]), ("012", [0, 1, 2]), (("2", "0"), [2, 0]), (("1", "2"), [1, 2])]
)
def test_numbers_are_outputs_from_zero_or_all_of_them_from_one(classes: Any, labels: list[int]) -> None:
    aligned = align_to_model(data_of(*classes), ("cat", "dog", "owl"), "net")
    assert aligned.classes == ("cat", "dog", "owl") and aligned.test.labels[: len(labels)].tolist() == labels


def test_the_models_order_goes_over_that_of_folders() -> None:
    aligned = align_to_model(data_of("cat", "dog"), ("Dog", "Cat"), "net")
    assert aligned.classes == ("Dog", "Cat") and aligned.test.labels.tolist() == [1, 0, 1, 0]


def test_names_in_another_order_of_which_some_are_unknown_are_refused() -> None:
    with pytest.raises(DataError, match="net has no place for the class 'owl'"):
        align_to_model(data_of("cat", "dog", "owl"), ("dog", "cat", "fox"), "net")
    other = align_to_model(data_of("Katze", "Hund"), ("cat", "dog"), "net")
    assert other.classes == ("Katze", "Hund") and "taken to be in the same order" in str(other.notes[-1])


def test_lists_with_a_doubled_name_at_the_same_places_fit_each_other() -> None:
    own = ("owl", "crane", "crane", "Fox")
    aligned = align_to_model(data_of("owl", "crane", "crane", "fox"), own, "net")
    assert aligned.classes == own and aligned.test.labels[:4].tolist() == [0, 1, 2, 3]
    with pytest.raises(DataError, match="'crane' and 'crane' of the data are one output of net, number 1"):
        align_to_model(data_of("crane", "crane"), ("owl", "crane"), "net")


def test_two_classes_for_one_output_are_refused() -> None:
    with pytest.raises(DataError, match="'shark' and 'white shark' of the data are one output of net, number 0"):
        align_to_model(data_of("shark", "white shark"), ("white shark, shark", "owl"), "net")


def test_images_without_classes_take_the_names(tmp_path: Path) -> None:
    nameless = replace(data_of("a", "b"), classes=())
    nameless = replace(nameless, test=replace(nameless.test, labels=np.full(4, -1)))
    assert align_to_model(nameless, ("cat", "cat"), "net").classes == ("cat", "cat")


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ({"b": "0", "a": "1"}, ("b", "a")),
        ({"label2id": {"b": 0.0, "a": 1.0}}, ("b", "a")),
        ({"idx_to_class": {"0": "b", "1": "a"}}, ("b", "a")),
        ({"7": 0, "3": 1}, ("7", "3")),
        ({"0": "7", "1": "3"}, ("7", "3")),
    ],
)
def test_numbers_in_json_may_be_texts_and_names_may_be_numbers(content: Any, names: Any, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps(content))
    assert class_names(str(tmp_path / "x.json")) == names


def test_names_that_end_in_a_number_stay_names(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("class 0\nclass 1\nclass 2\n")
    assert class_names(str(tmp_path / "x.txt")) == ("class 0", "class 1", "class 2")


def test_names_between_commas_on_one_line_are_a_list(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("crow,ape,bee\n")
    assert class_names(str(tmp_path / "x.txt")) == ("crow", "ape", "bee")


def test_names_of_folders_that_count_from_one_are_no_outputs(tmp_path: Path) -> None:
    """As Oxford Flowers' cat_to_name.json: its keys are folders, which torchvision sorts as 1, 10, 100, 11, ..."""
    (tmp_path / "x.json").write_text(json.dumps({str(number): f"flower {number}" for number in range(1, 13)}))
    with pytest.raises(DataError, match=r"numbers the model's outputs \[1, 2, 3"):
        class_names(str(tmp_path / "x.json"))
