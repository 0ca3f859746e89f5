import os

import numpy as np
import pytest
from PIL import Image

from fpclass.data.files import ImageIndex, image_files
from fpclass.errors import DataError


def write_image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((3, 2), np.uint8)).save(path)


def test_files_by_path_name_and_stem(tmp_path):
    for name in (
        "a.PNG",
        "sub/b.v2.jpeg",
        "sub/c.dat",
        "ä.png",
        ".hidden.png",
        ".git/d.png",
        "__MACOSX/e.png",
    ):
        write_image(tmp_path / "x.png")
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / "x.png").rename(tmp_path / name)
    index = ImageIndex(tmp_path, tmp_path)
    for cell, expected in {
        "a": "a.PNG",
        "a.PNG": "a.PNG",
        "./a.PNG": "a.PNG",
        "b.v2": "sub/b.v2.jpeg",
        "sub/b.v2": "sub/b.v2.jpeg",
        "sub\\b.v2.jpeg": "sub/b.v2.jpeg",
        "b.v2.jpeg": "sub/b.v2.jpeg",
        "c.dat": "sub/c.dat",  # the content decides what is an image, where a row names the file
        "a\u0308": "ä.png",
        "c": "",
        "b": "",
        "a.jpg": "",
        "other/b.v2.jpeg": "",
        "d": "",
        "e": "",
        ".hidden": "",
    }.items():
        assert index.find(cell, "here") == expected, cell
    assert sorted(index.images) == ["a.PNG", "sub/b.v2.jpeg", "ä.png"]


def test_an_exact_path_beats_the_same_name_elsewhere(tmp_path):
    write_image(tmp_path / "img.png")
    write_image(tmp_path / "thumbnails" / "img.png")
    index = ImageIndex(tmp_path, tmp_path)
    assert index.find("img.png", "here") == "img.png"
    with pytest.raises(DataError, match=r"img\.png, thumbnails/img\.png"):
        index.find("img", "here")


def test_json_beside_an_image_is_no_second_candidate(tmp_path):
    write_image(tmp_path / "img.png")
    (tmp_path / "img.json").write_text("{}")
    assert ImageIndex(tmp_path, tmp_path).find("img", "here") == "img.png"


def test_links_are_followed_but_not_in_circles(tmp_path):
    write_image(tmp_path / "elsewhere" / "a.png")
    root = tmp_path / "root"
    root.mkdir()
    (root / "images").symlink_to(tmp_path / "elsewhere")
    (root / "circle").symlink_to(root)
    assert image_files(root) == [root / "images" / "a.png"]


def test_links_in_a_circle_of_two_are_followed_once(tmp_path):
    for name, other in (("a", "b"), ("b", "a")):
        write_image(tmp_path / name / "1.png")
        for k in range(4):
            (tmp_path / name / f"link{k}").symlink_to(tmp_path / other)
    assert len(image_files(tmp_path)) == 10


@pytest.mark.parametrize("name", [b"caf\xe9.png", b"caf\xe9/1.png"])
def test_a_name_that_is_not_utf_8_is_refused(tmp_path, name):
    path = os.path.join(os.fsencode(tmp_path), name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb"):
        pass
    with pytest.raises(DataError, match=r"caf.*not UTF-8; rename") as error:
        image_files(tmp_path)
    assert str(error.value).encode()  # it can be printed
