import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from audit.core.errors import DataError, UsageError
from audit.data.dataset import Dataset
from audit.data.letterbox import GREY, Letterbox
from audit.data.load import load_dataset

SIZES = {"a.png": (40, 80), "b.png": (60, 60), "empty.png": (50, 30)}


def write_images(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, (height, width) in SIZES.items():
        Image.fromarray(np.full((height, width, 3), 200, np.uint8)).save(folder / name)


def coco_content() -> dict[str, Any]:
    return {
        "images": [
            {"id": 7 + n, "file_name": name, "height": size[0], "width": size[1]}
            for n, (name, size) in enumerate(SIZES.items())
        ],
        "categories": [{"id": 44, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 44, "bbox": [10, 5, 20, 10], "area": 150, "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 3, "bbox": [40, 10, 30, 25], "iscrowd": 1},
            {"id": 3, "image_id": 8, "category_id": 3, "bbox": [0, 0, 60, 60], "area": 3600},
        ],
    }


def write_coco(root: Path, content: dict[str, Any]) -> str:
    write_images(root / "images")
    (root / "instances_val.json").write_text(json.dumps(content))
    return f"coco:{root / 'instances_val.json'}"


def load(source: str, **options: Any) -> Dataset:
    return load_dataset(source, image_size=80, **options)


def objects_of(dataset: Dataset, name: str) -> Any:
    position = next(i for i, own in enumerate(dataset.test.ids) if own.endswith(name))
    return dataset.test.batch([position]).objects[0]  # type: ignore[index]


def test_coco_boxes_are_letterboxed_with_their_images(tmp_path: Path) -> None:
    dataset = load(write_coco(tmp_path, coco_content()))
    assert dataset.classes == ("cat", "dog") and dataset.category_ids == (3, 44)
    assert dataset.shape == (3, 80, 80) and len(dataset.test) == 3
    wide = objects_of(dataset, "a.png")
    assert wide.boxes.tolist() == [[10, 25, 30, 35], [40, 30, 70, 55]]  # 40 rows in the middle of 80
    assert wide.labels.tolist() == [1, 0] and wide.crowd.tolist() == [False, True]
    assert wide.areas.tolist() == [150, 750]
    square = objects_of(dataset, "b.png")
    assert square.boxes.tolist() == [[0, 0, 80, 80]] and square.areas.tolist() == pytest.approx([3600 * (80 / 60) ** 2])
    assert len(objects_of(dataset, "empty.png")) == 0
    image = dataset.test.batch([0]).images[0]
    assert torch.allclose(image[:, :20], torch.tensor(GREY / 255)) and torch.allclose(
        image[:, 25], torch.tensor(200 / 255)
    )
    keys = {note.key for note in dataset.notes}
    assert keys == {"data_letterboxed", "data_boxes_empty", "data_crowds"}


def test_the_fingerprint_follows_pixels_and_boxes(tmp_path: Path) -> None:
    first = load(write_coco(tmp_path, coco_content())).test.fingerprint
    assert load(write_coco(tmp_path, coco_content())).test.fingerprint == first
    moved = coco_content()
    moved["annotations"][0]["bbox"][0] += 1
    assert load(write_coco(tmp_path, moved)).test.fingerprint != first
    source = write_coco(tmp_path, coco_content())
    Image.fromarray(np.full((60, 60, 3), 201, np.uint8)).save(tmp_path / "images" / "b.png")
    assert load(source).test.fingerprint != first


def test_a_second_coco_file_gives_the_training_images(tmp_path: Path) -> None:
    source, content = write_coco(tmp_path, coco_content()), coco_content()
    write_images(tmp_path / "more")
    content["images"] = content["images"][:2]
    (tmp_path / "train.json").write_text(json.dumps(content))
    dataset = load(f"{source},train={tmp_path / 'train.json'},train-images={tmp_path / 'more'}")
    assert len(dataset.test) == 3 and dataset.train is not None and len(dataset.train) == 2
    first = dataset.train.batch([0])
    assert first.objects is not None and first.objects[0].labels.tolist() == [1, 0]
    content["categories"] = [{"id": 44, "name": "wolf"}, {"id": 3, "name": "cat"}]
    (tmp_path / "train.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"train.json lists other categories than instances_val.json"):
        load(f"{source},train={tmp_path / 'train.json'}")


def test_two_categories_of_one_number_are_refused(tmp_path: Path) -> None:
    content = coco_content()
    content["categories"].append({"id": 44, "name": "again"})
    with pytest.raises(DataError, match="two categories of the number 44"):
        load(write_coco(tmp_path, content))


@pytest.mark.parametrize(
    ("box", "kept", "key"),
    [
        ([70, 5, 20, 10], [[70, 25, 80, 35]], "data_boxes_clipped"),
        ([90, 5, 20, 10], [], "data_boxes_dropped"),
        ([30, 5, -20, 10], [], "data_boxes_dropped"),
        ([30, 5, 0, 10], [], "data_boxes_dropped"),
        ([70, 5, 11, 10], [[70, 25, 80, 35]], ""),
    ],
    ids=["beyond", "outside", "inverted", "flat", "rounded"],
)
def test_boxes_out_of_their_image(box: list[float], kept: list[list[float]], key: str, tmp_path: Path) -> None:
    content = coco_content()
    content["annotations"] = [{"image_id": 7, "category_id": 3, "bbox": box}, content["annotations"][2]]
    source = write_coco(tmp_path, content)
    dataset = load(source)
    assert objects_of(dataset, "a.png").boxes.tolist() == kept
    assert (key in {note.key for note in dataset.notes}) == bool(key)
    if key:
        with pytest.raises(DataError, match=r"'a\.png'"):
            load(source, strict=True)


def without(table: str) -> dict[str, Any]:
    return {name: rows for name, rows in coco_content().items() if name != table}


def changed(table: str, **values: Any) -> dict[str, Any]:
    content = coco_content()
    content[table][0] |= values
    return content


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (without("annotations"), "has no annotations"),
        (coco_content() | {"annotations": []}, "not one annotation"),
        (changed("annotations", category_id=5), "the class 5, which is none of cat, dog"),
        (changed("annotations", image_id=99), "an image 99 that it does not list"),
        (changed("images", height=80, width=40), "another version of the image"),
        (changed("annotations", bbox=[1, 2, 3]), "bbox"),
    ],
    ids=["test-part", "none", "category", "image", "size", "short"],
)
def test_a_broken_coco_file_is_refused_in_one_sentence(content: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=sentence):
        load(write_coco(tmp_path, content))


def test_a_missing_image_is_listed_or_refused(tmp_path: Path) -> None:
    source = write_coco(tmp_path, coco_content())
    (tmp_path / "images" / "b.png").unlink()
    dataset = load(source)
    assert len(dataset.test) == 2 and "b.png" in " ".join(str(note) for note in dataset.notes)
    with pytest.raises(DataError, match=r"b\.png"):
        load(source, strict=True)


def test_images_are_read_from_the_folder_that_is_named_and_from_nowhere_above_it(tmp_path: Path) -> None:
    write_images(tmp_path / "elsewhere")
    content = coco_content()
    content["images"][0]["file_name"] = "../elsewhere/a.png"
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "some.json").write_text(json.dumps(content))
    source = f"coco:{tmp_path / 'own' / 'some.json'}"
    with pytest.raises(DataError, match="none could be read"):
        load(source)
    assert len(load(f"{source},images={tmp_path / 'elsewhere'}").test) == 3
    with pytest.raises(DataError, match="no folder"):
        load(f"{source},images={tmp_path / 'nowhere'}")


VOC = """<annotation><filename>{name}</filename><size><width>{width}</width><height>{height}</height></size>{objects}
</annotation>"""
VOC_OBJECT = (
    "<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{0}</xmin><ymin>{1}</ymin>"
    "<xmax>{2}</xmax><ymax>{3}</ymax></bndbox></object>"
)


def write_voc(root: Path) -> str:
    write_images(root / "JPEGImages")
    (root / "Annotations").mkdir()
    dog = VOC_OBJECT.format(11, 6, 30, 15, name="dog", difficult=0)
    cat = VOC_OBJECT.format(1, 1, 60, 60, name="cat", difficult=1)
    for name, objects in (("a.png", dog), ("b.png", cat), ("empty.png", "")):
        height, width = SIZES[name]
        text = VOC.format(name=name, width=width, height=height, objects=objects)
        (root / "Annotations" / f"{name[:-4]}.xml").write_text(text)
    return f"voc:{root}"


def test_voc_pixels_count_from_one_and_difficult_objects_do_not_count(tmp_path: Path) -> None:
    dataset = load(write_voc(tmp_path))
    assert dataset.classes == ("cat", "dog") and dataset.train is None
    assert objects_of(dataset, "a.png").boxes.tolist() == [[10, 25, 30, 35]]
    square = objects_of(dataset, "b.png")
    assert square.boxes.tolist() == [[0, 0, 80, 80]] and square.crowd.tolist() == [True]


def test_voc_parts_are_those_of_its_image_sets(tmp_path: Path) -> None:
    source = write_voc(tmp_path)
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("a\n")
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("b\nempty\n")
    dataset = load(source)
    assert dataset.train is not None and (len(dataset.test), len(dataset.train)) == (1, 2)
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("zebra\n")
    with pytest.raises(DataError, match="'zebra'"):
        load(source)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("<annotation>", "cannot be read as XML"),
        ('<!DOCTYPE x [<!ENTITY y "z">]><annotation/>', "entities"),
        ("<annotation><object><name>dog</name></object></annotation>", "without xmin"),
        ("<annotation><object><bndbox/></object></annotation>", "without name"),
    ],
    ids=["open", "entity", "box", "name"],
)
def test_a_broken_voc_file_is_refused_in_one_sentence(text: str, sentence: str, tmp_path: Path) -> None:
    source = write_voc(tmp_path)
    (tmp_path / "Annotations" / "a.xml").write_text(text)
    with pytest.raises(DataError, match=sentence):
        load(source)


def write_yolo(root: Path, line: str = "1 0.25 0.25 0.25 0.25", names: str = "names: ['cat', dog]\n") -> str:
    write_images(root / "images" / "val")
    (root / "labels" / "val").mkdir(parents=True)
    (root / "labels" / "val" / "a.txt").write_text(f"{line}\n")
    (root / "labels" / "val" / "b.txt").write_text("0 0.5 0.5 1 1\n")
    (root / "data.yaml").write_text(f"path: .\nval: images/val\n{names}")
    return f"yolo:{root}"


@pytest.mark.parametrize(
    "names",
    [
        "names: ['cat', dog]\n",
        "names:\n  0: cat\n  1: dog\n",
        "names:\n- cat  # it\n- 'dog'\nnc: 2\n",
        "names: {0: cat, 1: dog}\n",
    ],
    ids=["list", "numbered", "dashes", "braces"],
)
def test_yolo_boxes_are_shares_of_their_image(names: str, tmp_path: Path) -> None:
    dataset = load(write_yolo(tmp_path, names=names))
    assert dataset.classes == ("cat", "dog") and len(dataset.test) == 3
    wide = objects_of(dataset, "a.png")
    assert wide.boxes.tolist() == [[10, 25, 30, 35]] and wide.labels.tolist() == [1]
    assert len(objects_of(dataset, "empty.png")) == 0


def test_yolo_polygons_give_their_bounding_box(tmp_path: Path) -> None:
    dataset = load(write_yolo(tmp_path, line="1 0.125 0.125 0.375 0.25 0.25 0.375"))
    assert objects_of(dataset, "a.png").boxes.tolist() == [[10, 25, 30, 35]]


def test_yolo_boxes_in_pixels_are_told_by_their_size(tmp_path: Path) -> None:
    source = write_yolo(tmp_path, line="1 20 10 20 10")
    (tmp_path / "labels" / "val" / "b.txt").write_text("0 30 30 60 60\n")
    dataset = load(source)
    assert objects_of(dataset, "a.png").boxes.tolist() == [[10, 25, 30, 35]]
    assert "data_yolo_pixels" in {note.key for note in dataset.notes}


@pytest.mark.parametrize(
    ("line", "sentence"),
    [("1 0.5 0.5", "line 1"), ("7 0.5 0.5 0.1 0.1", "none of cat, dog"), ("dog 1 1 1 1", "line 1")],
)
def test_a_broken_yolo_line_is_refused_in_one_sentence(line: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=sentence):
        load(write_yolo(tmp_path, line=line))


def test_yolo_without_names_is_refused(tmp_path: Path) -> None:
    source = write_yolo(tmp_path, names="")
    with pytest.raises(DataError, match="does not name its classes"):
        load(source)


def test_a_letterbox_keeps_proportions() -> None:
    assert Letterbox.of((50, 30), (80, 80)) == Letterbox(1.6, 80, 48, 0, 16)
    assert Letterbox.of((1, 1000), (80, 80)).height == 1


def test_drawn_images_have_the_boxes_of_their_shapes() -> None:
    dataset = load_dataset("detection-shapes:train=4,test=20,size=48")
    again = load_dataset("detection-shapes:train=4,test=20,size=48")
    assert dataset.test.fingerprint == again.test.fingerprint and dataset.test.fingerprint != dataset.train.fingerprint  # type: ignore[union-attr]
    batch = dataset.test.batch(slice(None))
    many = load_dataset("detection-shapes:train=2,test=60,size=32").test.batch(slice(None)).objects
    assert many is not None and any(not len(there) for there in many) and batch.objects is not None
    for image, there in zip(batch.images, batch.objects, strict=True):
        ground = image.flatten(1).median(1).values[:, None, None]
        bright = (image - ground).abs().mean(0) > 0.07  # shapes are .1 off in every channel, noise .03
        for box in there.boxes.long().tolist():
            x1, y1, x2, y2 = box
            assert bright[y1:y2, x1:x2].float().mean() > 0.3
            bright[y1:y2, x1:x2] = False
        assert bright.float().mean() < 0.02


def test_a_marker_stands_beside_each_object_of_its_class() -> None:
    plain, marked = (
        load_dataset(f"detection-shapes:train=2,test=30,marker={marker},marked_class=2").test.batch(slice(None))
        for marker in ("false", "true")
    )
    assert plain.objects is not None
    differs = (plain.images != marked.images).any(1)
    for image, there in zip(differs, plain.objects, strict=True):
        assert image.any() == (there.labels == 2).any()
        assert image.sum() <= 25 * int((there.labels == 2).sum())


def test_a_subset_keeps_objects_with_their_images() -> None:
    split = load_dataset("detection-shapes:train=2,test=10,size=32").test
    part = split.subset(np.array([7, 2])).batch(slice(None))
    whole = split.batch(slice(None))
    assert part.objects is not None and whole.objects is not None
    assert torch.equal(part.objects[0].boxes, whole.objects[7].boxes)
    assert torch.equal(part.images[1], whole.images[2])
    selected = whole.select(torch.tensor([2, 7]))
    assert selected.objects is not None and torch.equal(selected.objects[1].boxes, whole.objects[7].boxes)


def test_a_format_without_boxes_is_refused_for_a_detector() -> None:
    from audit.config import load_config
    from audit.runs.setup import set_up

    with pytest.raises(UsageError, match="one label an image"):
        set_up(load_config(overrides={"task": "detection", "data": {"source": "digits"}}))
