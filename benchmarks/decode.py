"""Decoding speed: scanned prints and large photographs, on one core and on all, beside bare Pillow.

Claim: decoding and resizing 2,628 PNGs of 806 x 1238 to 120 x 80, or JPEGs of 4032 x 3024 to 224 x 224, uses all cores,
and costs at most 1.2 times what the libraries need for opening, loading, converting and resizing alone, although every
image is also checked, hashed and measured.

Run: python benchmarks/decode.py            (about four minutes on two cores; --num-images=400 for a quick look)

The images are drawn here: `NUM_DISTINCT` different ones, written under as many names as are asked for, so that files
come from the page cache. Prints are dark ink of few grey levels on white paper, RGB with R = G = B; photographs are
coloured noise at all scales. "Pillow only" decodes a JPEG at the same reduced size as this project, "at full size" does
not. Each way is timed in turn, `--repeats` times, and its fastest time counts; nothing is cached between runs. On a
machine that others use as well, the control says how many cores were to be had: it hashes memory, which needs nothing
but a core.
"""

import argparse
import hashlib
import io
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import Image

from fpclass.common.threads import num_cores
from fpclass.data.decode import decode_table
from fpclass.data.resize import Decoding, reduce_jpeg
from fpclass.data.table import Table, make_rows

NUM_DISTINCT = 8


def draw_print(seed: int) -> bytes:
    """A PNG like a print: ellipses of speckled ink in 16 grey levels, RGB."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:1238, :806]
    inked = np.zeros((1238, 806), bool)
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


def draw_photograph(seed: int) -> bytes:
    """A JPEG of 12 megapixels: coloured noise whose amplitude falls with its frequency, as in nature."""
    rng = np.random.default_rng(seed)
    size = (4032, 3024)
    total = np.zeros((size[1], size[0], 3), np.float32)
    for side in (4, 16, 64, 256, 1024):
        noise = Image.fromarray(rng.integers(0, 256, (side * 3 // 4, side, 3)).astype(np.uint8))
        total += np.asarray(noise.resize(size, Image.Resampling.BICUBIC), np.float32) / side**0.5
    total += rng.normal(0, 4, total.shape[:2])[..., None]
    total = (total - total.min()) / (total.max() - total.min()) * 255
    stream = io.BytesIO()
    Image.fromarray(total.astype(np.uint8)).save(stream, "JPEG", quality=90)
    return stream.getvalue()


@dataclass(frozen=True)
class Case:
    """What is decoded: how it is drawn, how many there are, and what becomes of it."""

    name: str
    draw: Callable[[int], bytes]
    share: float
    image_size: tuple[int, int]
    channels: int

    def with_fpclass(self, table: Table, num_threads: int) -> np.ndarray:
        images, facts = decode_table(
            table, Decoding(self.image_size, self.channels), cache_dir=None, num_threads=num_threads
        )
        assert (facts["error"] == "").all()
        return images[:]

    def with_pillow(self, table: Table, num_threads: int, *, reduced: bool = True) -> np.ndarray:
        """The least that has to be done, grey before resizing because that is the cheaper order."""
        mode = "L" if self.channels == 1 else "RGB"

        def decode(row: int) -> np.ndarray:
            image = Image.open(io.BytesIO(table.read(row)))
            box = reduce_jpeg(image, self.image_size) if reduced else None
            image.load()
            return np.asarray(image.convert(mode).resize(self.image_size[::-1], Image.Resampling.BICUBIC, box))

        with ThreadPoolExecutor(num_threads) as pool:
            images = np.stack(list(pool.map(decode, range(len(table)))))
        return images.reshape(*images.shape[:3], self.channels)

    def at_full_size(self, table: Table, num_threads: int) -> np.ndarray:
        return self.with_pillow(table, num_threads, reduced=False)


CASES = {
    "png": Case("PNGs of 806 x 1238", draw_print, 1.0, (120, 80), 1),
    "jpeg": Case("JPEGs of 4032 x 3024", draw_photograph, 0.1, (224, 224), 3),
}


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


def run(case: Case, num_images: int, repeats: int) -> None:
    """Times one case and prints what came out."""
    cores = num_cores()
    with tempfile.TemporaryDirectory() as folder:
        distinct = [case.draw(seed) for seed in range(min(NUM_DISTINCT, num_images))]
        paths = [Path(folder, f"img_{n:04d}") for n in range(num_images)]
        for n, path in enumerate(paths):
            path.write_bytes(distinct[n % len(distinct)])
        names = [path.name for path in paths]
        rows = make_rows(names, list(map(str, paths)), [""] * num_images, ("0", "1"))
        table = Table(rows, ("0", "1"), ("0", "1"), read=lambda row: paths[row].read_bytes(), source="benchmark")
        kilobytes = np.mean([len(data) for data in distinct]) / 1e3
        print(f"{num_images} {case.name} ({len(distinct)} distinct, {kilobytes:.0f} kB) to {case.image_size}")

        ways = {"control": control, "Pillow only": case.with_pillow, "fpclass": case.with_fpclass}
        reference = case.with_pillow(table, cores)  # also fills the page cache
        full = case.at_full_size(table, cores)
        if not np.array_equal(full, reference):
            difference = np.abs(full.astype(int) - reference.astype(int))
            print(
                f"decoded at a reduced size: differs by {difference.mean():.3f} on average, {difference.max()} at most"
            )
            ways["at full size"] = case.at_full_size
        best: dict[tuple[str, int], tuple[float, float]] = {}
        for _ in range(repeats):
            for name, way in ways.items():
                for num_threads in dict.fromkeys((1, cores)):
                    wall, cpu, images = measure(way, table, num_threads)
                    expected = full if name == "at full size" else reference
                    assert images is None or np.array_equal(images, expected)
                    fastest = best.get((name, num_threads), (np.inf, np.inf))
                    best[name, num_threads] = (min(wall, fastest[0]), min(cpu, fastest[1]))

    print(f"{'':12} {'threads':>7} {'images/s':>9} {'ms CPU/image':>13} {'cores busy':>11}")
    for (name, num_threads), (wall, cpu) in best.items():
        figures = f"{num_images / wall:9.1f} {1e3 * cpu / num_images:13.2f} {cpu / wall:11.2f}"
        print(f"{name:12} {num_threads:7} {figures}")
    for name in ways:
        print(f"{name}: {cores} thread(s) are {best[name, 1][0] / best[name, cores][0]:.2f} x as fast as one")
    for kind, what in enumerate(("time", "CPU time")):
        ratios = [best["fpclass", n][kind] / best["Pillow only", n][kind] for n in (1, cores)]
        print(f"fpclass / Pillow only, {what}: {ratios[0]:.2f} on one thread, {ratios[1]:.2f} on {cores}")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-images", type=int, default=2628, help="prints; of photographs a tenth of that")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    arguments = parser.parse_args()
    print(f"Pillow {PIL.__version__}, {num_cores()} of {os.cpu_count()} cores\n")
    for case in map(CASES.__getitem__, arguments.cases):
        run(case, max(1, round(arguments.num_images * case.share)), arguments.repeats)


if __name__ == "__main__":
    main()
