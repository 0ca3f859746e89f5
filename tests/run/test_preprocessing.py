"""What a config does to images before training is done to new ones, too."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fpclass import cli
from fpclass.stats.metrics import log_softmax

SMALL = [
    "--config.data.label_column=SEX", "--config.data.group_column=ID", "--config.data.image_size=(30, 20)",
    "--config.model.conv_features=(4,4)", "--config.train.num_epochs=1", "--config.evaluate.num_resamples=20",
]  # fmt: skip


def test_new_images_are_cropped_and_equalised_like_those_of_the_training(blobs, tmp_path):
    """`predict` on the files of the validation images says what the training said of them."""
    run, keys = tmp_path / "run", ["--config.data.crop=foreground", "--config.data.equalise=clahe"]
    command = ["train", "--config=configs/base.py", f"--config.data.root={blobs}", *SMALL, *keys]
    assert cli.main([*command, f"--workdir={run}", "--until=evaluate"]) == 0
    said = pd.read_csv(run / "predictions.csv", dtype={"filename": str}).query("split == 'validation'")
    files = [str(blobs / "processed/processed" / f"{name}.png") for name in said["filename"]]
    assert cli.main(["predict", *files, f"--workdir={run}", f"--output={tmp_path / 'new.csv'}"]) == 0
    found = pd.read_csv(tmp_path / "new.csv").filter(like="probability_").to_numpy()
    expected = np.exp(log_softmax(said.filter(like="logit_").to_numpy(float)))
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert np.ptp(found[:, 1]) > 1e-3
