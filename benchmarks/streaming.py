"""Streaming: peak memory and time of whole trainings as a data set grows, streamed from disk and held in memory.

Claims: streamed, memory stays flat while the data set grows sixteenfold, and an epoch takes as long as in memory.

Run: python benchmarks/streaming.py            (about ten minutes on two cores; --num-images=250 for a quick look)

Every row is `launch.py train` in a process of its own, from files to submission, with an empty cache: drawn JPEGs,
all different, 1, 4 and 16 times `--num-images` of them. Peak memory is what the system says of that process (largest
resident set). Seconds per epoch are those of the run's log, without the first epoch, which compiles.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

PROJECT = Path(__file__).parents[1]
SIDE = 150


def draw(seed: int) -> bytes:
    """A JPEG of coloured clouds; those of odd seeds are a little redder."""
    rng = np.random.default_rng(seed)
    clouds = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
    clouds[..., 0] = np.minimum(clouds[..., 0].astype(int) + 60 * (seed % 2), 255)
    stream = io.BytesIO()
    Image.fromarray(clouds).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=85)
    return stream.getvalue()


def draw_folder(folder: Path, num_images: int) -> None:
    """Class folders of so many images."""
    for name in ("blue", "red"):
        (folder / name).mkdir(parents=True)

    def write(seed: int) -> None:
        (folder / ("blue", "red")[seed % 2] / f"{seed:06}.jpg").write_bytes(draw(seed))

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, range(num_images)))


def train(data: Path, scratch: Path, memory_gb: float, num_epochs: int) -> tuple[float, float]:
    """Trains in a process of its own; gives its peak memory in MB and its seconds per epoch."""
    workdir = scratch / "run"
    command = [
        sys.executable, str(PROJECT / "launch.py"), "train", "--config=configs/base.py", f"--workdir={workdir}",
        "--config.data.source=folder", f"--config.data.root={data}", f"--config.data.image_size=({SIDE},{SIDE})",
        "--config.data.channels=3", f"--config.data.memory_gb={memory_gb}", f"--config.train.num_epochs={num_epochs}",
        "--config.evaluate.num_resamples=100",
    ]  # fmt: skip
    environment = {**os.environ, "FPCLASS_CACHE": str(scratch / "cache")}
    with (scratch / "output.txt").open("w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
    text = (scratch / "output.txt").read_text()
    if status:
        raise SystemExit(text)
    assert ("streamed from disk" in text) == (memory_gb < 1), text
    seconds = [json.loads(line)["seconds"] for line in (workdir / "log.jsonl").read_text().splitlines()]
    peak_bytes = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return peak_bytes / 1e6, float(np.median(seconds[1:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-images", type=int, default=1000)
    parser.add_argument("--times", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--memory-gb", type=float, default=0.02)
    arguments = parser.parse_args()
    print(f"{'images':>7} {'decoded MB':>11} {'':10} {'peak MB':>8} {'s / epoch':>10}")
    for times in arguments.times:
        with tempfile.TemporaryDirectory() as folder:
            count = times * arguments.num_images
            draw_folder(Path(folder, "data"), count)
            for name, memory_gb in (("streamed", arguments.memory_gb), ("in memory", 1000.0)):
                scratch = Path(folder, name)
                scratch.mkdir()
                peak, seconds = train(Path(folder, "data"), scratch, memory_gb, arguments.epochs)
                print(
                    f"{count:7} {count * SIDE * SIDE * 3 / 1e6:11.0f} {name:10} {peak:8.0f} {seconds:10.2f}", flush=True
                )


if __name__ == "__main__":
    main()
