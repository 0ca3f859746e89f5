"""Predictions from Python: whatever images are given as, the numbers of the command line; compiled once; in threads."""

from __future__ import annotations

import collections
import io
import pathlib
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import fpclass
from fpclass import cli
from fpclass.run import best
from fpclass.train import trained

READ: dict[str, Any] = {"dtype": {"predicted": str, "abstain": str, "set": str}, "keep_default_na": False}


@pytest.fixture(scope="module")
def run(photo_run: pathlib.Path) -> fpclass.TrainedRun:
    opened = fpclass.load(photo_run)
    assert isinstance(opened, fpclass.TrainedRun)
    return opened


@pytest.fixture(scope="module")
def photo(photos: pathlib.Path) -> pathlib.Path:
    """One of them, so small that no decoder reads a part of it."""
    return sorted(photos.rglob("*.jpeg"))[0]


@pytest.mark.parametrize("kind", ["run", "study"])
def test_a_folder_is_predicted_as_by_the_command(kind, request, photos, blobs, tmp_path):
    folder = request.getfixturevalue({"run": "photo_run", "study": "study"}[kind])
    images = {"run": photos, "study": blobs / "processed"}[kind]
    output = tmp_path / "predictions.csv"
    assert cli.main(["predict", str(images), f"--workdir={folder}", f"--output={output}"]) == 0
    trained = fpclass.load(folder)
    frame = trained.predict(images)
    assert frame.to_csv(index=False) == output.read_text()
    assert ("set" in frame) == (kind == "study")
    single = trained.predict(frame["filename"][0])
    assert single.probabilities == pytest.approx(dict(zip(trained.classes, _shares(frame)[0], strict=True)), abs=2e-6)
    assert single.label == frame["name"][0]


def _shares(frame: pd.DataFrame) -> np.ndarray:
    return frame.filter(regex="^probability_").to_numpy()


def test_an_image_is_the_same_in_every_form(run, photo):
    picture = Image.open(photo)
    pixels = np.asarray(picture)
    png = io.BytesIO()
    picture.save(png, "PNG")
    floats = [pixels / 255, pixels / np.float32(255)]
    forms = [str(photo), photo, photo.read_bytes(), picture, pixels, *floats, png.getvalue()]
    each = [run.predict(form) for form in forms]
    assert all(isinstance(one, fpclass.Prediction) for one in each)
    assert [one.probabilities for one in each] == [each[0].probabilities] * len(forms)
    assert sum(each[0].probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert each[0].probability == each[0].probabilities[each[0].label]
    several = [run.predict(many) for many in (forms, iter(forms), pd.Series(forms, dtype=object))]
    several.append(run.predict(np.stack([pixels] * len(forms))))
    for frame in several:
        assert len(frame) == len(forms)
        assert (_shares(frame) == _shares(several[0])).all()
    assert several[0]["filename"].tolist() == [str(photo)] * 2 + [f"image {k}" for k in range(2, 8)]
    assert len(run.predict([photo])) == 1, "a list of one is several"
    assert run.predict([]).columns.tolist() == several[0].columns.tolist()


def test_orientation_and_transparency_hold_for_pictures_too(run, photos, tmp_path):
    image = Image.open(sorted(photos.rglob("dog*.jpeg"))[0])
    exif = Image.Exif()
    exif[274] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    cut = image.convert("RGBA")
    cut.putalpha(Image.linear_gradient("L").resize(image.size))
    cut.save(tmp_path / "cut.png")
    for name in ("turned", "cut"):
        path = tmp_path / f"{name}.png"
        assert run.predict(Image.open(path)).probabilities == run.predict(path).probabilities
    assert run.predict(tmp_path / "turned.png").probabilities != run.predict(image).probabilities


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (np.zeros((3, 40, 40), np.uint8), "is no image: expected"),
        (np.full((4, 4), 255.0), "floats from 255 to 255: expected intensities in"),
        (np.full((4, 4), np.nan), "floats from nan"),
        (np.zeros((4, 4), np.int64), "expected np.uint8"),
        (np.zeros((0, 4), np.uint8), "is no image"),
        ([np.zeros(4, np.uint8)], "is no image"),
        (3, "a int is no image"),
        ([None], "a NoneType is no image"),
        ("nowhere.jpg", "no such file"),
        (b"", "image 0: empty file"),
        (b"GIF89a", "image 0: not an image"),
    ],
)
def test_what_is_no_image_is_one_line(run, x, said):
    with pytest.raises(fpclass.FpclassError, match=said):
        run.predict(x)


def test_one_bad_file_of_many_is_a_row(run, photo, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(photo.read_bytes()[:300])
    frame = run.predict([tmp_path / "broken.jpg", photo])
    assert frame["error"].tolist()[1] == ""
    assert frame["error"].tolist()[0]
    assert np.isnan(_shares(frame)[0]).all()
    with pytest.raises(fpclass.DecodeError, match=r"broken\.jpg: "):
        run.predict(tmp_path / "broken.jpg")


def test_programs_are_compiled_for_a_few_sizes_once(photo_run):
    run = fpclass.load(photo_run)
    rng = np.random.default_rng(0)
    run.predict(rng.integers(0, 256, (40, 24, 20, 3), np.uint8), batch_size=16)
    run.predict(rng.integers(0, 256, (24, 20, 3), np.uint8))
    (member,) = run._predictor.members.values()
    known = member[0].predict_alone._cache_size()
    for count in (1, 5, 16, 17, 40, 33):
        images = rng.integers(0, 256, (count, 24, 20, 3), np.uint8)
        together = run.predict(images, batch_size=16)
        assert len(together) == count
        apart = [run.predict(image).probability for image in images[-2:]]
        assert _shares(together)[-2:].max(axis=1) == pytest.approx(apart[-count:], abs=2e-6)
    assert member[0].predict_alone._cache_size() == known


def test_several_threads_restore_and_compile_it_once(photo_run, photos, run, monkeypatch):
    calls = collections.Counter()

    def counted(owner, name):
        plain = getattr(owner, name)

        def slow(*args):
            calls[name] += 1
            time.sleep(0.2)  # long enough for the other threads to come
            return plain(*args)

        monkeypatch.setattr(owner, name, slow)

    counted(best.checkpoints, "restore")
    counted(trained, "make_predict")
    paths = sorted(photos.rglob("*.jpeg"))
    opened = fpclass.load(photo_run)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(opened.predict, paths))
    assert calls == {"restore": 1, "make_predict": 1}
    assert [one.probabilities for one in found] == [run.predict(path).probabilities for path in paths]


def test_a_persons_images_are_pooled_where_that_is_asked_for(study, blobs, tmp_path):
    member = next((study / "members" / "baseline").iterdir())
    folder = shutil.copytree(member, tmp_path / "member")
    images = sorted((blobs / "processed/processed").glob("*.png"))[:6]
    with pytest.raises(fpclass.ConfigError, match=r"predict\.pool"):
        fpclass.load(folder).predict(images, groups=list("aabbcc"))
    pooled = fpclass.load(folder, **{"predict.pool": "mean"})
    frame = pooled.predict(images, groups=list("aabbcc"))
    table = tmp_path / "people.csv"
    pd.DataFrame({"filename": [image.name for image in images], "ID": list("aabbcc")}).to_csv(table, index=False)
    flags = ["--config.predict.pool=mean", f"--groups={table}", f"--output={tmp_path / 'out.csv'}"]
    assert cli.main(["predict", *map(str, images), f"--workdir={folder}", *flags]) == 0
    assert frame.to_csv(index=False) == (tmp_path / "out.csv").read_text()
    assert (_shares(frame)[::2] == _shares(frame)[1::2]).all()
    alone = fpclass.load(folder).predict(images[0])
    assert pooled.predict(images[0]).probabilities == alone.probabilities
    with pytest.raises(fpclass.ConfigError, match="give groups"):
        pooled.predict(images)
    for groups in ("aabb", [*"aabbc", ""], [*"aabbc", None]):
        with pytest.raises(fpclass.DataError, match="groups"):
            pooled.predict(images, groups=list(groups))


def test_weights_that_are_too_many_are_restored_in_turn(study, blobs, monkeypatch):
    """The same numbers, and nothing is kept."""
    images = sorted((blobs / "processed/processed").glob("*.png"))[:3]
    expected = fpclass.load(study).predict(images)
    monkeypatch.setattr("fpclass.run.predictor.KEPT_BYTES", 0)
    monkeypatch.setattr("fpclass.run.predictor.WINDOW_BYTES", 2 * 24 * 20)
    opened = fpclass.load(study)
    pd.testing.assert_frame_equal(opened.predict(images, batch_size=4), expected)
    members = [member for of_config in opened._predictor.members.values() for member in of_config]
    assert len(members) == 6
    assert not any("variables" in vars(member) for member in members)
