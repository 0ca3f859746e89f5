"""Makes bundle_v1, a bundle of format 1: a study of two folds of a tiny network on a few synthetic footprints.

Run: python tests/golden/make_bundle.py, with the version of fpclass that wrote the format; not again.
"""

import pathlib
import tempfile

from fpclass import cli

KEYS = {
    "data.source": "synthetic",
    "data.synthetic.num_images": 60,
    "data.synthetic.image_size": "(60,40)",
    "data.image_size": "(12,10)",
    "model.conv_features": "(2,)",
    "model.dense_features": "(3,)",
    "train.num_epochs": 3,
}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        flags = [f"--config.{key}={value}" for key, value in KEYS.items()]
        config = "--configs=configs/footprints/baseline.py"
        cli.main(["study", config, "--folds=2", "--seeds=1", f"--workdir={folder}/golden", *flags])
        cli.main(["bundle", f"{folder}/golden", f"--output={pathlib.Path(__file__).with_name('bundle_v1')}"])


if __name__ == "__main__":
    main()
