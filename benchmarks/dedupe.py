"""Copies among 100,000 images: how long finding them takes; and, on images, how many are found, and how many wrongly.

Claim: the clusters of 100,000 images are found from their fingerprints in less than 30 seconds of one core, whether
the hashes are spread evenly, lie in clumps as those of prints do, or come from films; and they are the right ones. So
are those of 20,000 frames of one film, copies or only alike.

Run: python benchmarks/dedupe.py                    the claim (about two minutes; look at the seconds of CPU)
     python benchmarks/dedupe.py --images FOLDER    what is found among real images (docs/dedupe.md)

The fingerprints of the claim are drawn: hashes and thumbnails of different images, and of copies with a few bits
flipped and some noise. `spread`: random hashes. `clumped`: every hash lies around one of 200 centres with 5 bits
flipped, so that millions of pairs are near and only thumbnails tell. `films`: 100 scenes of frames that are all copies.
`drifting`: a camera stands and something wanders through its picture for a fifth as many frames; the first and the last
are no copies, but each is one of the next, so they are one cluster. `grainy`: the same, with noise by which none is a
copy of any other, although all hashes are near: nothing but a comparison of all with all can tell, and it is the worst.

With --images every image is saved again in several ways; the share of these copies that is found is told from that of
other images of the folder that are taken for copies. Copies that are in the folder already count as others: look at
them with `launch.py dedupe FOLDER --output DIR --list`.
"""

import argparse
import io
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy.ndimage import gaussian_filter

from fpclass.common.threads import num_cores
from fpclass.data.clusters import find_clusters
from fpclass.data.decode import open_picture
from fpclass.data.files import image_files
from fpclass.data.perceptual import (
    MAX_DHASH_DISTANCE,
    MAX_DISTANCE,
    THUMBNAIL_PX,
    Fingerprints,
    fingerprint,
    hamming,
    is_copy,
    near_pairs,
    similarity,
)

SIMILARITY = 0.99
NUM_PIXELS = THUMBNAIL_PX**2
COPIED_GRAIN = 6
"""Grey levels of noise in the frames of a film below which they are copies of the next one."""
Picture = Image.Image


def saved(picture: Picture, file_format: str, quality: int) -> Picture:
    stream = io.BytesIO()
    picture.save(stream, file_format, quality=quality)
    return open_picture(stream.getvalue())[0]


def scaled(picture: Picture, factor: float) -> Picture:
    size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
    return picture.resize(size, Image.Resampling.BICUBIC)


def cropped(picture: Picture, share: float) -> Picture:
    across, down = round(picture.width * share), round(picture.height * share)
    return picture.crop((across, down, picture.width - across, picture.height - down))


WAYS: dict[str, Callable[[Picture], Picture]] = {
    "JPEG 90": lambda picture: saved(picture, "JPEG", 90),
    "JPEG 50": lambda picture: saved(picture, "JPEG", 50),
    "JPEG 20": lambda picture: saved(picture, "JPEG", 20),
    "JPEG 10": lambda picture: saved(picture, "JPEG", 10),
    "WebP 50": lambda picture: saved(picture, "WEBP", 50),
    "half": lambda picture: scaled(picture, 0.5),
    "a quarter": lambda picture: scaled(picture, 0.25),
    "double": lambda picture: scaled(picture, 2.0),
    "half, JPEG 50": lambda picture: saved(scaled(picture, 0.5), "JPEG", 50),
    "stretched to 224 x 224": lambda picture: picture.resize((224, 224)),
    "grey": lambda picture: picture.convert("L"),
    "2 % cut off at each side": lambda picture: cropped(picture, 0.02),
    "5 % cut off at each side": lambda picture: cropped(picture, 0.05),
}


def flipped(codes: np.ndarray, num_bits: int, rng: np.random.Generator) -> np.ndarray:
    """The codes with so many of their bits flipped at random places, or fewer where a place comes twice."""
    for _ in range(num_bits):
        codes = codes ^ (np.uint64(1) << rng.integers(0, 64, len(codes), dtype=np.uint64))
    return codes


def draw(scenario: str, num_images: int, seed: int = 0) -> tuple[Fingerprints, np.ndarray]:
    """Fingerprints of different images and of copies, shuffled; and the true cluster of each."""
    rng = np.random.default_rng(seed)
    num_scenes = 100 if scenario == "films" else int(num_images * 0.9)
    truth = np.concatenate([np.arange(num_scenes), rng.integers(0, num_scenes, num_images - num_scenes)])
    rng.shuffle(truth)
    codes = []
    for _ in range(2):
        own = rng.integers(0, 2**64, num_scenes, dtype=np.uint64)
        if scenario == "clumped":
            own = flipped(own[rng.integers(0, 200, num_scenes)], 5, rng)
        codes.append(flipped(own[truth], 2, rng))
    details = np.empty((num_images, NUM_PIXELS), np.float16)
    scenes = rng.standard_normal((num_scenes, NUM_PIXELS), np.float32)
    for start in range(0, num_images, 4096):
        part = scenes[truth[start : start + 4096]]
        part = part + 0.04 * rng.standard_normal(part.shape, np.float32)
        details[start : start + 4096] = part / np.linalg.norm(part, axis=1, keepdims=True)
    return Fingerprints(codes[0], codes[1], np.zeros((num_images, NUM_PIXELS), np.uint8), details), truth


def film(num_frames: int, grain: float, seed: int = 0) -> tuple[Fingerprints, np.ndarray]:
    """Fingerprints of a film's frames, shuffled, with noise of so many grey levels; and the true cluster of each."""
    rng = np.random.default_rng(seed)
    side = (THUMBNAIL_PX, THUMBNAIL_PX)
    scene = 128 + 40 * sum(gaussian_filter(rng.standard_normal(side), px) * 2 * px for px in (1, 2, 4))
    y, x = np.indices(side)
    wandering = 16 + np.cumsum(rng.normal(0, 0.1, (num_frames, 2)), axis=0)
    pictures = []
    for row, column in np.abs(wandering % 64 - 32):
        spot = np.exp(-((y - row) ** 2 + (x - column) ** 2) / 18)
        frame = scene * (1 - spot) + 220 * spot + rng.normal(0, grain, side)
        pictures.append(Image.fromarray(np.clip(frame, 0, 255).astype(np.uint8)))
    rng.shuffle(pictures)
    return prints_of(pictures), np.arange(num_frames) * (grain > COPIED_GRAIN)


def measure_search(num_images: int) -> None:
    print(f"{'':10} {'images':>8} {'near hashes':>12} {'seconds':>8} {'CPU':>8} {'clusters':>9} {'all right':>10}")
    scenarios: dict[str, Callable[[], tuple[Fingerprints, np.ndarray]]] = {
        name: partial(draw, name, num_images) for name in ("spread", "clumped", "films")
    }
    scenarios |= {name: partial(film, num_images // 5, grain) for name, grain in (("drifting", 1), ("grainy", 12))}
    for scenario, drawn in scenarios.items():
        prints, truth = drawn()
        wall, cpu = time.perf_counter(), time.process_time()
        cluster = find_clusters(prints, SIMILARITY)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        num_pairs = sum(pairs.shape[1] for pairs in near_pairs(prints.phash, MAX_DISTANCE))
        sizes = np.bincount(cluster)
        pairs = pd.DataFrame({"cluster": cluster, "truth": truth})
        num_clusters = {len(pairs.drop_duplicates(columns)) for columns in ("cluster", "truth", ["cluster", "truth"])}
        is_right = len(num_clusters) == 1
        counts = f"{scenario:10} {len(prints):8,} {num_pairs:12,}"
        print(f"{counts} {wall:8.1f} {cpu:8.1f} {(sizes > 1).sum():9,} {is_right!s:>10}")


def prints_of(pictures: list[Picture]) -> Fingerprints:
    with ThreadPoolExecutor(num_cores()) as pool:
        return Fingerprints.from_facts(pd.DataFrame(list(pool.map(fingerprint, pictures))))


def measure_images(folder: Path, limit: int) -> None:
    files = image_files(folder)
    rng = np.random.default_rng(0)
    files = [files[row] for row in np.sort(rng.permutation(len(files))[:limit])]
    with ThreadPoolExecutor(num_cores()) as pool:
        pictures = list(pool.map(lambda file: open_picture(file.read_bytes())[0], files))
    started = time.perf_counter()
    prints = prints_of(pictures)
    seconds = time.perf_counter() - started
    print(f"{folder}: {len(files)} images; hashes and thumbnails {len(files) / seconds:,.0f} a second, once decoded\n")

    print(f"{'copies':26} {'found':>7}  {'pHash, dHash':>13}  similarity (the 1st percentile, the median)")
    rows = np.sort(rng.permutation(len(files))[:500])
    for name, way in WAYS.items():
        with ThreadPoolExecutor(num_cores()) as pool:
            copies = prints_of(list(pool.map(way, [pictures[row] for row in rows])))
        both = prints.take(rows).and_also(copies)
        pair = np.arange(len(rows)), np.arange(len(rows), 2 * len(rows))
        alike = similarity(both, *pair)
        bits = [int(np.percentile(hamming(code, *pair), 99)) for code in (both.phash, both.dhash)]
        found = is_copy(both, *pair, SIMILARITY).mean()
        print(f"{name:26} {found:7.1%}  {bits[0]:6} {bits[1]:6}  {np.percentile(alike, 1):.4f} {np.median(alike):.4f}")

    pairs = np.concatenate([np.zeros((2, 0), int), *near_pairs(prints.phash, MAX_DISTANCE)], axis=1)
    first, second = np.unique(np.sort(pairs, axis=0), axis=1)
    near = hamming(prints.dhash, first, second) <= MAX_DHASH_DISTANCE
    alike = np.sort(similarity(prints, first[near], second[near]))[::-1]
    print(f"\nothers: {len(first):,} pairs have a near pHash, {near.sum():,} a near dHash as well; their similarity:")
    print(", ".join(f"{(alike >= bound).sum():,} at least {bound}" for bound in (0.9, 0.95, 0.97, 0.98, SIMILARITY)))
    print("the highest:", " ".join(f"{value:.4f}" for value in alike[:12]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-images", type=int, default=100_000)
    parser.add_argument("--images", type=Path, metavar="FOLDER")
    parser.add_argument("--limit", type=int, default=3000, help="images taken from FOLDER; default %(default)s")
    arguments = parser.parse_args()
    if arguments.images:
        measure_images(arguments.images, arguments.limit)
    else:
        print(f"{arguments.num_images:,} images, {num_cores()} cores")
        measure_search(arguments.num_images)


if __name__ == "__main__":
    main()
