"""Exports to a page that classifies pictures in the browser, by the ONNX model and onnxruntime-web: static files."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import tarfile
import tempfile

from fpclass.data.altered.versions import WHOLE
from fpclass.errors import ConfigError, one_line
from fpclass.run.predictor import Predictor

VERSION = "1.30.0"
"""Of onnxruntime-web, where npm brings it."""
RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
"""Its files that the page needs, of its folder dist."""
PAGE = {"web.html": "index.html", "decode.mjs": "decode.mjs"}
"""The page's own files: their names here and there."""


def write_page(predictor: Predictor, folder: pathlib.Path, runtime: str) -> None:
    """Writes a page into a folder, without the model and its preprocessing.json, which it finds beside itself.

    Args:
      runtime: the folder with the files of onnxruntime-web, or with the npm package, unpacked; "": npm loads them.

    Raises:
      ConfigError: the page's script does not do to a picture what the networks were trained on; or there is no runtime.
    """
    for decoding in predictor.by_decoding:
        for key, plain in (("crop", ("none", "centre")), ("equalise", ("none",)), ("keep", (WHOLE,))):
            if (value := getattr(decoding, key)) not in plain:
                raise ConfigError(f"export --to=onnx-web: its page cannot do data.{key}={value}; use `serve`")
    for name, there in PAGE.items():
        shutil.copyfile(pathlib.Path(__file__).with_name(name), folder / there)
    if runtime:
        _copy_runtime(pathlib.Path(runtime), folder)
    else:
        _load_runtime(folder)


def _copy_runtime(given: pathlib.Path, folder: pathlib.Path) -> None:
    place = given / "dist" if (given / "dist").is_dir() else given
    for name in RUNTIME:
        if not (place / name).is_file():
            raise ConfigError(f"{place}: has no {name}; give the folder dist of the npm package onnxruntime-web")
        shutil.copyfile(place / name, folder / name)


def _load_runtime(folder: pathlib.Path) -> None:
    npm, package = shutil.which("npm"), f"onnxruntime-web@{VERSION}"
    advice = f"get the npm package {package} and give its folder, --web-runtime=DIR"
    if npm is None:
        raise ConfigError(f"export --to=onnx-web: there is no npm here; {advice}")
    with tempfile.TemporaryDirectory() as scratch:
        command = [npm, "pack", "--silent", package]
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
        archives = list(pathlib.Path(scratch).glob("*.tgz"))
        if done.returncode or not archives:
            raise ConfigError(f"npm pack {package}: {one_line(done.stderr)}; {advice}")
        with tarfile.open(archives[0]) as archive:
            archive.extractall(scratch, filter="data")
        _copy_runtime(pathlib.Path(scratch) / "package", folder)
