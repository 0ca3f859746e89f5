"""`fpclass eda` with a pretrained network: its features compare the images."""

from __future__ import annotations

import json

import numpy as np
from test_task import listed  # noqa: F401 - a network of four stages with published weights, for every test here

from fpclass import cli
from fpclass.eda.features import make_features
from fpclass.experiment import load_config


def test_features_come_from_the_frozen_network():
    config = load_config(
        "configs/base.py",
        ["--config.model.weights=tiny", "--config.data.image_size=(32,24)", "--config.data.channels=3"],
    )
    images = np.random.default_rng(0).integers(0, 256, (40, 32, 24, 3), np.uint8)
    images[7] = images[3]
    rows = np.array([3, 7, *range(10, 40)])
    features = make_features(config, images, rows)
    assert features.is_pretrained
    assert "tiny" in features.description
    assert features.values.shape == (32, 4)  # as many components as the last stage has channels
    np.testing.assert_allclose(features.values[0], features.values[1], atol=1e-5)
    assert np.linalg.norm(features.values[2:] - features.values[0], axis=1).min() > 1e-3


def test_the_page_names_the_network(blobs, tmp_path):
    network = ["--config.model.weights=tiny", "--config.model.dense_features=()", "--config.data.channels=3"]
    small = ["--config.data.image_size=(32,24)", "--config.evaluate.num_resamples=50"]
    place = [f"--config.data.root={blobs}", f"--workdir={tmp_path / 'run'}"]
    args = ["eda", "--config=configs/footprints/baseline.py", *place, *network, *small]
    assert cli.main(args) == 0
    page = (tmp_path / "run" / "eda.html").read_text(encoding="utf-8")
    assert "tiny, pretrained and frozen" in page
    found = json.loads((tmp_path / "run" / "eda.json").read_text(encoding="utf-8"))
    assert found["label_errors"]["num_judged"] == 32
