"""Decoding speed: the whole data set of the competition's size, on one core and on all, beside bare Pillow.

Claim: decoding and resizing 2,628 PNGs of 806 x 1238 to 120 x 80 uses all cores, and costs little more than Pillow's
own open, load, convert and resize, although every image is also checked, hashed and measured.

Run: python benchmarks/decode.py            (about two minutes on two cores; --num-images=400 for a quick look)

The images are drawn here: `NUM_DISTINCT` different ones, written under as many names as are asked for, so that files
come from the page cache. Dark ink of few grey levels on white paper, RGB with R = G = B. Each way is timed in turn,
`--repeats` times, and its fastest time counts; nothing is cached between runs. On a machine that others use as well,
the control says how many cores were to be had: it hashes memory, which needs nothing but a core.
"""

import argparse
import hashlib
import io
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import Image

from fpclass.data.decode import decode_table, num_cores
from fpclass.data.table import Table, make_rows

HEIGHT, WIDTH = 1238, 806
IMAGE_SIZE = (120, 80)
NUM_DISTINCT = 8


def draw_print(seed: int) -> bytes:
    """A PNG like a print: ellipses of speckled ink in 16 grey levels, RGB."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    inked = np.zeros((HEIGHT, WIDTH), bool)
    parts = [(850, 400, 260, 150), (500, 420, 280, 190), *((180 + 12 * n * n, 220 + 95 * n, 60, 42) for n in range(5))]
    for centre_y, centre_x, radius_y, radius_x in parts:
        shift_y, shift_x = rng.normal(0, 15, 2)
        distance = ((y - centre_y - shift_y) / radius_y) ** 2 + ((x - centre_x - shift_x) / radius_x) ** 2
        inked |= distance < 1
    ink = 17 * rng.integers(0, 8, inked.shape)
    grey = np.where(inked & (rng.random(inked.shape) < 0.8), ink, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(grey).convert("RGB").save(stream, "PNG")
    return stream.getvalue()


def with_fpclass(table: Table, num_threads: int) -> np.ndarray:
    images, facts = decode_table(
        table, image_size=IMAGE_SIZE, channels=1, interpolation="bicubic", cache_dir=None, num_threads=num_threads
    )
    assert (facts["error"] == "").all()
    return images


def with_pillow(table: Table, num_threads: int) -> np.ndarray:
    """The least that has to be done, grey before resizing because that is the cheaper order."""

    def decode(row: int) -> np.ndarray:
        image = Image.open(io.BytesIO(table.read(row)))
        image.load()
        return np.asarray(image.convert("L").resize(IMAGE_SIZE[::-1], Image.Resampling.BICUBIC))

    with ThreadPoolExecutor(num_threads) as pool:
        return np.stack(list(pool.map(decode, range(len(table)))))[..., None]


def control(table: Table, num_threads: int) -> None:
    """Some milliseconds of work per row that threads cannot hinder each other in."""
    block = bytes(10_000_000)
    with ThreadPoolExecutor(num_threads) as pool:
        list(pool.map(lambda _: hashlib.sha256(block).digest(), range(len(table))))


def measure(way: Callable[[Table, int], Any], table: Table, num_threads: int) -> tuple[float, float, Any]:
    """Gives wall seconds, CPU seconds and the images, if it makes any."""
    wall, cpu = time.perf_counter(), time.process_time()
    images = way(table, num_threads)
    return time.perf_counter() - wall, time.process_time() - cpu, images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-images", type=int, default=2628)
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    num_images, cores = arguments.num_images, num_cores()

    with tempfile.TemporaryDirectory() as folder:
        distinct = [draw_print(seed) for seed in range(min(NUM_DISTINCT, num_images))]
        paths = [Path(folder, f"img_{n:04d}.png") for n in range(num_images)]
        for n, path in enumerate(paths):
            path.write_bytes(distinct[n % len(distinct)])
        names = [path.name for path in paths]
        rows = make_rows(names, list(map(str, paths)), [""] * num_images, ("0", "1"))
        table = Table(rows, ("0", "1"), ("0", "1"), read=lambda row: paths[row].read_bytes(), source="benchmark")
        kilobytes = np.mean([len(data) for data in distinct]) / 1e3
        print(f"{num_images} PNGs of {WIDTH} x {HEIGHT} ({len(distinct)} distinct, {kilobytes:.0f} kB) to {IMAGE_SIZE}")
        print(f"Pillow {PIL.__version__}, {cores} of {os.cpu_count()} cores\n")

        ways = {"control": control, "Pillow only": with_pillow, "fpclass": with_fpclass}
        best: dict[tuple[str, int], tuple[float, float]] = {}
        reference = with_pillow(table, cores)  # also fills the page cache
        for _ in range(arguments.repeats):
            for name, way in ways.items():
                for num_threads in dict.fromkeys((1, cores)):
                    wall, cpu, images = measure(way, table, num_threads)
                    assert images is None or np.array_equal(images, reference)
                    best[name, num_threads] = min(best.get((name, num_threads), (np.inf, 0.0)), (wall, cpu))

    print(f"{'':12} {'threads':>7} {'images/s':>9} {'ms CPU/image':>13} {'cores busy':>11}")
    for (name, num_threads), (wall, cpu) in best.items():
        figures = f"{num_images / wall:9.1f} {1e3 * cpu / num_images:13.2f} {cpu / wall:11.2f}"
        print(f"{name:12} {num_threads:7} {figures}")
    print()
    for name in ways:
        print(f"{name}: {cores} thread(s) are {best[name, 1][0] / best[name, cores][0]:.2f} x as fast as one")
    print(f"fpclass reaches {best['Pillow only', cores][0] / best['fpclass', cores][0]:.2f} of Pillow's own speed")


if __name__ == "__main__":
    main()
