"""Experiment 23: averaging over flips and shifts at prediction.

Hypothesis: errors on a print, its mirror image and its neighbours two pixels off differ, so that the average errs less.
Reference: none, our own.
Run: python launch.py train --config=configs/footprints/exp23_test_time_augmentation.py --config.data.root=DIR
"""

from ml_collections import ConfigDict

from configs.footprints import baseline

CHANGES = ("predict.flip", "predict.shift_px")


def get_config() -> ConfigDict:
    config = baseline.get_config()
    config.name = "exp23_test_time_augmentation"
    config.predict.flip = True
    config.predict.shift_px = 2
    return config
