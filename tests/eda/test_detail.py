"""The finest detail of images: the same picture, as it is, enlarged, out of focus; and where it is said."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image, ImageFilter

from fpclass import cli
from fpclass.data.table import Table, make_rows
from fpclass.eda.detail import COARSE, Detail, detail_of, finest_detail


def natural(size, seed=0):
    """A drawn picture whose spectrum is that of photographs: power by 1 / f^2."""
    f = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None])
    f[0, 0] = 1
    noise = np.random.default_rng(seed).normal(size=(size, size))
    grey = np.fft.ifft2(np.fft.fft2(noise) / f).real
    return Image.fromarray(np.clip(128 + 40 * grey / grey.std(), 0, 255).astype(np.uint8))


def enlarged(size, times, seed=0):
    """A picture of `size` pixels that was `times` smaller."""
    return natural(size // times, seed).resize((size, size), Image.Resampling.BICUBIC)


def test_an_enlarged_picture_has_less_detail_by_as_much():
    whole = finest_detail(np.asarray(natural(128)))
    assert 0.85 < whole < 1.42
    for times in (2, 4):
        found = finest_detail(np.asarray(enlarged(128, times)))
        assert 0.7 * whole / times < found < 1.3 * whole / times
    blurred = natural(128).filter(ImageFilter.GaussianBlur(3))
    assert finest_detail(np.asarray(blurred)) < COARSE


def test_waves_have_the_detail_of_their_frequency():
    x = np.arange(200)
    for part in (0.25, 0.5, 0.8):
        assert finest_detail(np.cos(np.pi * part * x)[None].repeat(150, 0)) == pytest.approx(part, abs=0.04)


@pytest.mark.parametrize("shape", [(2, 2), (16, 900), (700, 600)])
def test_any_size_has_a_number(shape):
    assert 0 <= finest_detail(np.random.default_rng(0).integers(0, 256, shape, np.uint8)) <= np.sqrt(2) + 1e-6


def write_photos(folder, times, count=8):
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for k in range(count):
            enlarged(64, times, seed=k + 100 * (name == "b")).save(folder / name / f"{k}.png")
    return folder


def test_of_a_data_set_it_is_the_median_of_what_can_be_looked_at(tmp_path):
    write_photos(tmp_path, 1)
    names = [f"a/{k}.png" for k in range(8)]
    (tmp_path / names[0]).write_bytes(b"torn meanwhile")
    Image.new("L", (64, 64)).save(tmp_path / names[1])
    rows = make_rows(names, names, ["a"] * 8, ["a", "b"])
    rows["width"] = rows["height"] = 64
    rows["width"] = [64, 64, *[64] * 5, 8]
    rows["std"] = [40.0, 0.0, *[40.0] * 6]
    rows["status"] = "ok"
    table = Table(rows, ("a", "b"), ("a", "b"), lambda row: (tmp_path / names[row]).read_bytes(), "a set")
    expected = [finest_detail(np.asarray(natural(64, k))) for k in range(2, 7)]
    found = detail_of(table)
    assert found == Detail(pytest.approx(np.median(expected)), 64, 5)
    assert found.text == ""
    rows["std"] = 0.0
    assert detail_of(table) is None


@pytest.mark.parametrize(("times", "is_coarse"), [(1, False), (4, True)])
def test_eda_says_that_images_were_enlarged(tmp_path, monkeypatch, capsys, times, is_coarse):
    write_photos(tmp_path / "photos", times)
    monkeypatch.setenv("FPCLASS_CACHE", str(tmp_path / "cache"))
    flags = ["--config.evaluate.num_resamples=100", f"--workdir={tmp_path / 'run'}"]
    assert cli.main(["eda", str(tmp_path / "photos"), *flags]) == 0
    found = json.loads((tmp_path / "run" / "eda.json").read_text(encoding="utf-8"))["detail"]
    assert found["is_coarse"] is is_coarse
    said, page = capsys.readouterr().out, (tmp_path / "run" / "eda.html").read_text(encoding="utf-8")
    assert ("detail        coarse: " in said) is is_coarse
    assert page.count("hold no more detail than images of") == 2 * is_coarse
