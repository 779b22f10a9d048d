"""What tables say of images beside their labels is kept, example by example, and changes no fingerprint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from audit.core.image_options import ORIGINAL_ASPECT, ORIGINAL_SIDE
from audit.data.cohorts import cohorts_fingerprint
from audit.data.load import load_dataset


def photographs(root: Path, table: str, header: str, *, wide: bool = False) -> Path:
    """Twenty pictures of two classes, and a table of what is known of them."""
    rows = [header]
    for number in range(20):
        name = f"{'ab'[number % 2]}/{number:02d}.png"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        size = (12 if wide and number % 4 == 0 else 8, 8)
        Image.new("RGB", size, (number * 12, 40, 90)).save(root / name)
        age = "" if number == 3 else str(20 + number * 7 % 50)
        rows.append(f"{name},{'ab'[number % 2]},{'north' if number % 3 else 'south'},{age},note {number},{number}")
    (root / table).write_text("\n".join(rows))
    return root


def test_columns_of_a_manifest_are_kept_and_those_that_make_no_groups_are_not(tmp_path: Path) -> None:
    root = photographs(tmp_path, "list.csv", "path,label,site,age,remark,row")
    dataset = load_dataset(f"manifest:{root}/list.csv")
    cohorts = dataset.test.cohorts
    assert sorted(cohorts) == ["age", "site"]  # remarks differ in every row, and row counts through
    place = dataset.test.ids.index("b/03.png")
    assert cohorts["site"][place] == "south" and np.isnan(cohorts["age"][place])
    assert "site, age" in " ".join(map(str, dataset.notes))


def test_metadata_beside_the_pictures_of_a_folder_are_read(tmp_path: Path) -> None:
    root = photographs(tmp_path, "metadata.csv", "file_name,kind,site,age,remark,row")
    cohorts = load_dataset(f"folder:{root}").test.cohorts
    assert sorted(cohorts) == ["age", "site"]  # kind is the class by another name
    assert set(cohorts["site"].tolist()) == {"north", "south"}


def test_a_table_that_cannot_be_read_is_said_and_the_pictures_are_read(tmp_path: Path) -> None:
    root = photographs(tmp_path, "metadata.csv", "file_name,kind,site,age,remark,row")
    (root / "metadata.csv").write_bytes(b'file_name,site\n"a/00.png\x00,north\n')
    dataset = load_dataset(f"folder:{root}")
    assert len(dataset.test) == 20 and not dataset.test.cohorts
    assert "metadata.csv" in " ".join(map(str, dataset.notes)) or dataset.notes


def test_they_follow_the_examples_into_the_parts_that_are_held_out(tmp_path: Path) -> None:
    source = f"manifest:{photographs(tmp_path, 'list.csv', 'path,label,site,age,remark,row')}/list.csv"
    whole, held = load_dataset(source).test, load_dataset(source, test_share=0.3).test
    said = dict(zip(whole.ids, whole.cohorts["site"].tolist(), strict=True))
    assert 0 < len(held) < 20 and [said[name] for name in held.ids] == held.cohorts["site"].tolist()


def test_no_fingerprint_of_images_depends_on_them_and_their_own_does(tmp_path: Path) -> None:
    root = photographs(tmp_path, "list.csv", "path,label,site,age,remark,row")
    first = load_dataset(f"manifest:{root}/list.csv").test
    (root / "list.csv").write_text((root / "list.csv").read_text().replace("south", "west"))
    second = load_dataset(f"manifest:{root}/list.csv").test
    assert first.fingerprint == second.fingerprint
    assert cohorts_fingerprint(first.cohorts) != cohorts_fingerprint(second.cohorts)
    assert cohorts_fingerprint({}) == ""


def test_sizes_of_the_originals_are_kept_where_they_differ(tmp_path: Path) -> None:
    source = f"folder:{photographs(tmp_path, 'notes.txt', '', wide=True)}"
    cohorts = load_dataset(source, image_size=8).test.cohorts
    assert sorted(cohorts) == sorted((ORIGINAL_SIDE, ORIGINAL_ASPECT))
    assert set(cohorts[ORIGINAL_ASPECT].tolist()) == {1.0, 1.5}
