"""`fpclass convert`: the same pixels as decoding gives, in folders of the same shape; the originals stay."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pictures import draw_picture, tree
from PIL import Image

from fpclass import cli
from fpclass.config import base_config
from fpclass.data.decode import decode_bytes
from fpclass.data.resize import Decoding
from fpclass.data.sources import load_table
from fpclass.data.tidy import convert as module
from fpclass.data.tidy.convert import output_names

ORIENTATION = 274


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Odd files in folders; read only."""
    folder = tmp_path_factory.mktemp("scans")
    for name in ("a", "b/c"):
        (folder / name).mkdir(parents=True)
    draw_picture(0).save(folder / "a" / "colour.jpg", quality=90)
    draw_picture(1, num_channels=1).save(folder / "a" / "grey.tif")
    upside_down = Image.Exif()
    upside_down[ORIENTATION] = 6
    draw_picture(2).save(folder / "b" / "c" / "turned.jpg", exif=upside_down)
    transparent = draw_picture(3).convert("RGBA")
    transparent.putalpha(Image.linear_gradient("L").resize(transparent.size))
    transparent.save(folder / "b" / "alpha.png")
    Image.fromarray((np.asarray(draw_picture(4, num_channels=1)).astype(np.uint16)) * 257).save(folder / "deep.png")
    (folder / "b" / "broken.png").write_bytes((folder / "b" / "alpha.png").read_bytes()[:500])
    (folder / "b" / "empty.gif").touch()
    (folder / "read me.txt").write_text("mine")
    return folder


def convert(folder: Path, output: Path, *more: str) -> int:
    return cli.main(["convert", str(folder), str(output), *more])


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize("mode", ["rgb", "grey"])
@pytest.mark.parametrize("resize", ["stretch", "pad"])
def test_pngs_hold_what_decoding_gives(scans, tmp_path, mode, resize) -> None:
    before = tree(scans)
    assert convert(scans, tmp_path / "out", "--mode", mode, "--size", "50", "70", "--resize", resize) == 1
    assert tree(scans) == before
    sources = ["a/colour.jpg", "a/grey.tif", "b/alpha.png", "b/c/turned.jpg", "deep.png"]
    images = {name for name in tree(tmp_path / "out") if name.endswith(".png")}
    assert images == {str(Path(name).with_suffix(".png")) for name in sources}
    for name in sources:
        decoding = Decoding((50, 70), channels=3 if mode == "rgb" else 1, resize=resize)
        expected = decode_bytes((scans / name).read_bytes(), decoding).image
        found = pixels((tmp_path / "out" / name).with_suffix(".png"))
        assert np.array_equal(found.reshape(expected.shape), expected), name


def test_without_a_size_images_keep_theirs_upright(scans, tmp_path) -> None:
    convert(scans, tmp_path / "out", "--format", "jpeg", "--quality", "98")
    turned = pixels(tmp_path / "out" / "b" / "c" / "turned.jpg")
    assert turned.shape == (160, 120, 3)
    expected = decode_bytes((scans / "b/c/turned.jpg").read_bytes(), Decoding((160, 120), channels=3))
    assert np.abs(turned.astype(int) - expected.image).mean() < 2
    with Image.open(tmp_path / "out" / "b" / "c" / "turned.jpg") as image:
        assert image.format == "JPEG"
        assert not image.getexif()


def test_the_report_lists_every_file(scans, tmp_path, capsys) -> None:
    assert convert(scans, tmp_path / "out") == 1
    said = capsys.readouterr().out
    assert "7 files" in said
    assert "5 converted, 0 were there already, 2 cannot be read" in said
    assert "b/empty.gif (empty file)" in said
    assert "turned upright" in said
    report = pd.read_csv(tmp_path / "out" / ".convert.csv", keep_default_na=False).set_index("filename")
    assert set(report.index[report["error"] != ""]) == {"b/broken.png", "b/empty.gif"}
    assert (report["output"] == "").equals(report["error"] != "")
    assert report.loc["deep.png", "output_bytes"] == (tmp_path / "out" / "deep.png").stat().st_size


def test_a_second_start_does_only_what_is_new_or_has_changed(tmp_path, capsys) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for k in range(4):
        draw_picture(k).save(folder / f"{k}.jpg")
    convert(folder, output)
    before = tree(output)
    (output / "1.png").unlink()
    draw_picture(9).save(folder / "2.jpg")
    os.utime(folder / "2.jpg", (1e9, 1e9))
    draw_picture(7).save(folder / "7.jpg")
    (folder / "3.jpg").write_bytes(b"broken now")
    capsys.readouterr()
    assert convert(folder, output) == 1
    assert "3 converted, 1 were there already, 1 cannot be read" in capsys.readouterr().out
    after = tree(output)
    assert after["0.png"] == before["0.png"]
    assert after["1.png"] == before["1.png"]
    assert after["2.png"][0] != before["2.png"][0]
    assert "7.png" in after
    assert "3.png" not in after, "an image of what is no longer there"


def test_an_interruption_leaves_whole_files_and_the_next_start_goes_on(tmp_path, monkeypatch, capsys) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for k in range(12):
        draw_picture(k).save(folder / f"{k:02}.jpg")

    def interrupted(picture, conversion):
        if np.array_equal(np.asarray(picture), pixels(folder / "05.jpg")):
            raise KeyboardInterrupt
        return picture

    with monkeypatch.context() as patch:
        patch.setattr(module, "_converted", interrupted)
        assert convert(folder, output) == 130
    there = sorted(path.name for path in output.glob("*.png"))
    assert "05.png" not in there
    for name in there:
        assert pixels(output / name).shape == (120, 160, 3)
    assert not list(output.rglob("*.tmp*"))
    assert convert(folder, output) == 0
    assert len(list(output.glob("*.png"))) == 12
    assert f"{12 - len(there)} converted, {len(there)} were there already" in capsys.readouterr().out


def test_other_settings_need_another_folder(tmp_path, capsys) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    draw_picture(0).save(folder / "0.jpg")
    assert convert(folder, output, "--size", "30", "40") == 0
    assert convert(folder, output, "--size", "30", "40") == 0
    assert convert(folder, output, "--size", "40", "30") == 2
    message = capsys.readouterr().err
    assert "image_size" in message
    assert message.count("\n") == 1
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("")
    assert convert(folder, tmp_path / "full") == 2
    assert convert(folder, folder / "inside") == 2
    assert convert(tmp_path / "gone", output) == 2


def test_names_that_would_collide_keep_their_old_extension() -> None:
    sources = ["a/1.jpg", "a/1.png", "a/2.jpg", "b/1.jpg", "a/X.bmp", "a/x.gif", "a/v1.2.tif"]
    names = output_names(sources, ".png")
    assert list(names.values()) == [
        *("a/1.jpg.png", "a/1.png.png", "a/2.png", "b/1.png", "a/X.bmp.png", "a/x.gif.png", "a/v1.2.png"),
    ]
    names = output_names(["1.jpg", "1.png", "1.jpg.png", "2.gif"], ".png")
    assert list(names.values()) == ["1.jpg.png", "1.png.png", "1.jpg.png.png", "2.png"]


def test_what_has_no_original_any_more_is_named(tmp_path, capsys) -> None:
    """Left alone it would be in the data set twice, as the old 1.png and as 1.jpg.png."""
    folder = tmp_path / "in"
    folder.mkdir()
    draw_picture(1).save(folder / "1.jpg")
    assert convert(folder, tmp_path / "out") == 0
    assert "delete them" not in capsys.readouterr().out
    draw_picture(2).save(folder / "1.png")
    assert convert(folder, tmp_path / "out") == 0
    assert f"1 images in {tmp_path / 'out'} are of no file in {folder}: 1.png; delete them" in capsys.readouterr().out


def test_a_size_that_could_not_be_read_again(tmp_path, capsys) -> None:
    (tmp_path / "in").mkdir()
    draw_picture(1).save(tmp_path / "in" / "1.jpg")
    assert convert(tmp_path / "in", tmp_path / "out", "--size", "65000", "65000") == 2
    assert "--size 65000 65000: expected 150,000,000 pixels at most" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("cells", [["p0.jpg", "q/p1.bmp"], ["p0", "p1"], ["images/p0.jpg", "images\\q\\p1.bmp"]])
def test_a_csv_data_set_loads_as_before(tmp_path, cells) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    (folder / "images" / "q").mkdir(parents=True)
    draw_picture(0).save(folder / "images" / "p0.jpg")
    draw_picture(1).save(folder / "images" / "q" / "p1.bmp")
    cells = [*cells, "gone.jpg"]
    rows = "".join(f'{cell},{k},"a, {k}"\n' for k, cell in enumerate(cells))
    (folder / "all.CSV").write_text("\ufefffilename,label,remark\n" + rows, encoding="utf-8")
    (folder / "SYNTHETIC.txt").write_text("drawn")
    assert convert(folder, output, "--mode", "grey", "--size", "20", "30") == 0

    def load(root: Path):
        data = base_config().data
        data.update({"root": str(root), "image_dir": "images"})  # without data.csv: there is only one still
        return load_table(data)

    before, after = load(folder), load(output)
    assert after.is_synthetic
    assert after.rows["raw_label"].tolist() == before.rows["raw_label"].tolist() == ["0", "1", "2"]
    old, new = ([Path(path).stem for path in table.rows["path"]] for table in (before, after))
    assert old == new == ["p0", "p1", ""]
    assert pixels(Path(after.rows["path"][0])).shape == (20, 30)
    assert pd.read_csv(output / "all.CSV")["remark"].tolist() == ["a, 0", "a, 1", "a, 2"]


def test_a_circle_of_links_for_a_folder_is_one_line(tmp_path):
    (tmp_path / "in").mkdir()
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    for command in (["convert", str(tmp_path / "in"), str(circle)], ["synthesize", str(circle), "--num-images=8"]):
        assert cli.main(command) == 2
