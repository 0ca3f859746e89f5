"""Exports: run on images and compared with the bundle before anything is written."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import pathlib
import shutil
import subprocess
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image

import fpclass
from fpclass import cli
from fpclass.data.resize import CENTRE, RESAMPLING, Decoding, centre_of
from fpclass.deploy import formats, web
from fpclass.deploy.parity import judge, paired_drop, why_refused
from fpclass.errors import ConfigError
from fpclass.stats.probabilities.calibration import Calibration
from fpclass.stats.probabilities.fold_average import Combination, Sharpening

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "bundle_v1"


@pytest.fixture
def images(tmp_path: pathlib.Path) -> pathlib.Path:
    """Drawn images in folders of the two classes."""
    rng = np.random.default_rng(0)
    for name in "01":
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(6):
            pixels = rng.integers(0, 256, (9 + i, 7), np.uint8)
            Image.fromarray(pixels).resize((40, 60)).save(tmp_path / "images" / name / f"{i}.png")
    return tmp_path / "images"


def test_stablehlo_says_what_the_bundle_says(images, tmp_path, capsys):
    output = tmp_path / "exports"
    command = ["export", str(GOLDEN), "--to=stablehlo", f"--images={images}", f"--output={output}"]
    assert cli.main(command) == 0
    assert cli.main(command) == 0, "exports are replaced"
    assert "stablehlo" in capsys.readouterr().out
    facts = json.loads((output / "exports.json").read_text())["formats"]["stablehlo"]
    assert facts["num_labelled"] == 12
    assert facts["drop"]["value"] == 0
    known = json.loads((output / "preprocessing.json").read_text())
    (given,) = known["inputs"]
    height, width, channels = given["shape"][1:]
    exported = jax.export.deserialize(bytearray((output / "model.stablehlo").read_bytes()))
    assert set(exported.platforms) == {"cpu", "cuda", "tpu"}
    path = images / "1" / "3.png"
    bands = Image.open(path).resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(bands).reshape(1, height, width, channels)
    expected = list(fpclass.load_bundle(GOLDEN).predict(path).probabilities.values())
    assert np.asarray(exported.call(pixels))[0] == pytest.approx(expected, abs=1e-5)


def test_an_export_that_says_something_else_is_not_written(images, tmp_path, monkeypatch, capsys):
    broken = formats.FORMATS["stablehlo"]
    load = broken.load
    wrong = {"load": lambda path: lambda given: load(path)(given)[:, ::-1]}
    monkeypatch.setitem(formats.FORMATS, "stablehlo", dataclasses.replace(broken, **wrong))
    output = tmp_path / "exports"
    assert cli.main(["export", str(GOLDEN), "--to=stablehlo", f"--images={images}", f"--output={output}"]) == 2
    assert "more than 1e-05; nothing is written" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--to=tensorflow"], "expected stablehlo, onnx"),
        (["--to=tflite", "--precision=int4"], "expected float32, float16, int8"),
        (["--to=stablehlo"], "a bundle has no images"),
        (["--to=stablehlo", "--images=nowhere"], "no such file"),
    ],
)
def test_what_cannot_be_exported_is_one_line(flags, said, tmp_path, capsys):
    assert cli.main(["export", str(GOLDEN), f"--output={tmp_path / 'x'}", *flags]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("form", "package"), [("onnx", "jax2onnx"), ("tflite", "tensorflow")])
def test_a_package_that_is_missing_is_named(form, package, images, tmp_path, capsys):
    if importlib.util.find_spec(package):
        pytest.skip("it is installed")
    assert cli.main(["export", str(GOLDEN), f"--to={form}", f"--images={images}", f"--output={tmp_path / 'x'}"]) == 2
    assert f"needs the package {package}" in capsys.readouterr().err


def test_ranges_of_8_bits_are_not_compared_on_the_images_that_they_are_of(images, tmp_path, monkeypatch, capsys):
    given = {}

    def write(predictor, path, calibration):
        given["written"] = calibration[0]
        path.write_bytes(b"model")

    def load(path):
        def run(compared):
            given["run"] = given.get("run", compared[0])
            return np.full((len(compared[0]), 2), 0.5)

        return run

    form = formats.FORMATS["tflite-int8"]
    monkeypatch.setitem(formats.FORMATS, "tflite-int8", dataclasses.replace(form, write=write, load=load, tolerance=1))
    command = ["export", str(GOLDEN), "--to=tflite", "--precision=int8", f"--images={images}", "--allow-drop=1"]
    assert cli.main([*command, f"--output={tmp_path / 'x'}"]) == 0
    assert len(given["written"]) == len(given["run"]) == 6
    assert not (given["written"][:, None] == given["run"][None]).all(axis=(2, 3, 4)).any()
    assert cli.main([*command, "--num-images=1", f"--output={tmp_path / 'y'}"]) == 2
    assert "needs 2 images" in capsys.readouterr().err


def test_tflite_says_what_the_bundle_says(images, tmp_path):
    pytest.importorskip("tensorflow")
    pytest.importorskip("ai_edge_litert")
    command = ["export", str(GOLDEN), "--to=tflite", "--precision=float32,float16,int8", f"--images={images}"]
    assert cli.main([*command, f"--output={tmp_path / 'x'}"]) == 0
    facts = json.loads((tmp_path / "x" / "exports.json").read_text())["formats"]
    differences = {name: of["max_difference"] for name, of in facts.items()}
    assert differences["tflite-float32"] < 1e-5
    assert differences["tflite-float16"] < 1e-2
    assert 0 < differences["tflite-int8"] < 0.1


def test_8_bits_leave_alone_what_a_probe_computes(noisy, tmp_path):
    """Roots of covariances lose their small eigenvalues in 8 bits: probabilities were off by 0.2."""
    pytest.importorskip("tensorflow")
    pytest.importorskip("ai_edge_litert")
    small = ["--config.data.label_column=SEX", "--config.data.group_column=ID", "--config.data.image_size=(48,48)"]
    small += ["--config.model.name=blocks", "--config.model.head=probe", "--config.evaluate.num_resamples=20"]
    folder, output = tmp_path / "run", tmp_path / "exports"
    for pooling in ("both", "covariances"):
        flags = [f"--config.data.root={noisy}", *small, f"--config.model.probe_pooling={pooling}"]
        assert cli.main(["train", "--config=configs/base.py", *flags, f"--workdir={folder / pooling}"]) == 0
        command = ["export", str(folder / pooling), "--to=tflite", "--precision=int8", f"--images={noisy}"]
        assert cli.main([*command, "--allow-drop=1", f"--output={output}"]) == 0
        facts = json.loads((output / "exports.json").read_text())["formats"]
        assert facts["tflite-int8"]["max_difference"] < 0.1


def test_onnx_says_what_the_bundle_says(images, tmp_path):
    pytest.importorskip("jax2onnx")
    output = tmp_path / "exports"
    assert cli.main(["export", str(GOLDEN), "--to=onnx", f"--images={images}", f"--output={output}"]) == 0
    assert json.loads((output / "exports.json").read_text())["formats"]["onnx"]["max_difference"] < 1e-4


@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_the_combination_of_arrays_of_jax_is_that_of_numpy(average):
    from fpclass.deploy.graph import combine

    rng = np.random.default_rng(0)
    logits = {name: 3 * rng.normal(size=(4, 9, 3)) for name in "ab"}
    calibration = Calibration("vector", (1.2, 0.8, 1.0), (0.1, 0.0, -0.2))
    how = Combination({"a": 0.25, "b": 0.75}, average, calibration, 2, Sharpening(1.3, "them"))
    members = {name: [jax.numpy.asarray(each, np.float32) for each in of] for name, of in logits.items()}
    np.testing.assert_allclose(jax.jit(lambda: combine(how, members))(), how(logits), atol=2e-5)
    assert Combination.from_json(json.loads(json.dumps(how.to_json()))) == how


def test_the_gate_refuses_a_difference_and_a_drop_that_its_interval_shows():
    expected = np.full((100, 2), 0.5) + np.array([0.1, -0.1])
    labels = np.zeros(100, np.int64)
    same = judge(expected, expected, labels)
    assert why_refused(same, 0.0, 0.0) == ""
    assert same["drop"]["low"] < 0 < same["drop"]["high"]
    other = expected.copy()
    other[:30] = other[:30, ::-1]
    worse = judge(expected, other, labels)
    assert worse["drop"]["value"] == 0.3
    assert "excludes the 0.01 that is allowed" in why_refused(worse, 1.0, 0.01)
    assert why_refused(worse, 1.0, 0.5) == ""
    assert "a probability differs by 0.2" in why_refused(worse, 0.1, 1.0)
    assert why_refused(judge(expected, np.full((100, 2), np.nan), labels), 1.0, 1.0)
    few = paired_drop(np.ones(5, bool), np.array([True] * 4 + [False]))
    assert few.low is not None
    assert few.low < 0.01, "one of five shows nothing"


@pytest.mark.parametrize("part", ["whole", "middle"])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_the_page_resizes_as_pillow_does_to_the_bit(interpolation, part, tmp_path):
    if not (node := shutil.which("node")):
        pytest.skip("there is no node")
    pixels = np.random.default_rng(0).integers(0, 256, (61, 47, 3), np.uint8)
    sizes = [(23, 31), (90, 20), (61, 12), (128, 128)]
    script = pathlib.Path(web.__file__).with_name("decode.mjs").as_uri()
    assert f"const CENTRE = {CENTRE};" in pathlib.Path(web.__file__).with_name("decode.mjs").read_text()
    left, top, right, bottom = box = centre_of((0.0, 0.0, 47.0, 61.0)) if part == "middle" else (0.0, 0.0, 47.0, 61.0)
    (tmp_path / "run.mjs").write_text(
        f"import {{ resized }} from {json.dumps(script)};\n"
        f"const pixels = new Uint8ClampedArray({pixels.ravel().tolist()});\n"
        f"const part = [{top}, {left}, {bottom}, {right}], how = '{interpolation}';\n"
        f"const all = {json.dumps(sizes)}.map((size) => [...resized(pixels, [61, 47], size, how, part)]);\n"
        "console.log(JSON.stringify(all));\n"
    )
    done = subprocess.run([node, tmp_path / "run.mjs"], capture_output=True, text=True, check=True)
    for (height, width), found in zip(sizes, json.loads(done.stdout), strict=True):
        if interpolation == "nearest":  # rounds each coordinate once
            expected = Image.fromarray(pixels).resize((width, height), RESAMPLING[interpolation], box)
        else:
            rows_first = Image.fromarray(pixels).resize((width, 61), RESAMPLING[interpolation], (left, 0, right, 61))
            expected = rows_first.resize((width, height), RESAMPLING[interpolation], (0, top, width, bottom))
        np.testing.assert_array_equal(np.reshape(found, (height, width, 3)), np.asarray(expected))


def test_a_page_needs_its_runtime_and_networks_that_see_whole_pictures(images, tmp_path, capsys):
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    command = ["export", str(GOLDEN), "--to=onnx-web", f"--images={images}", f"--output={tmp_path / 'x'}"]
    assert cli.main([*command, f"--web-runtime={runtime}"]) == 2
    assert "has no ort.wasm.min.mjs" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
    for name in web.RUNTIME:
        (runtime / name).write_text(name)
    cropped = SimpleNamespace(by_decoding=[Decoding((8, 8), 1, crop="foreground")])
    with pytest.raises(ConfigError, match="its page cannot do"):
        web.write_page(cropped, tmp_path, str(runtime))
    plain = SimpleNamespace(by_decoding=[Decoding((8, 8), 1)])
    web.write_page(plain, tmp_path, str(runtime))
    assert {*web.RUNTIME, "index.html", "decode.mjs"} <= {path.name for path in tmp_path.iterdir()}
