"""The embedded data set: footprints that were drawn, in the competition's layout and format.

    root/all_labels.csv                     filename,ID,SEX; SEX is 0.0, 1.0, or empty for a row to predict
    root/processed/processed/<filename>.png
    root/SYNTHETIC.txt                      says what this is
    root/parameters.json                    what it was drawn with
    root/truth/truth.csv                    what every row really is; nothing in the pipeline reads it

`python -m fpclass.data.synthetic.dataset` prints the accuracy of the best possible classifier of these prints.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from fpclass.common.files import read_text, replacing_folder
from fpclass.common.threads import in_threads
from fpclass.data.synthetic import anatomy, drawing
from fpclass.data.synthetic.anatomy import MAN, WOMAN, bayes_accuracy
from fpclass.data.table import Progress
from fpclass.errors import DataError

DRAWING_VERSION = 1
"""Counts up with every change that alters a print, so that a folder of an older drawing is not taken for this one."""

MAX_IMAGES = 1_000_000
"""More are refused: of the default size, a million take five hours of processor time."""

_SHARES = {  # prints by (class, labelled) of the competition; the classes of its rows to predict are taken alike
    (WOMAN, True): 845,
    (MAN, True): 728,
    (WOMAN, False): 567,
    (MAN, False): 488,
}
_SINGLE_PRINT_SHARE = 0.06  # of the prints: people who gave only one
_SIDES = ("left", "right")


@dataclasses.dataclass(frozen=True)
class Person:
    """A synthetic person, of 1 or 2 prints.

    Class and number, which counts the people of a class, address all their random numbers, in a data set of any size.
    """

    sex: int
    number: int
    num_prints: int
    labelled: bool


def plan_people(num_images: int, seed: int) -> list[Person]:
    """Plans the people of the data set, in the order of its rows.

    Their prints number exactly num_images, in the competition's proportions of class and of labelled rows.
    """
    exact = np.array(list(_SHARES.values())) * num_images / sum(_SHARES.values())
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: num_images - counts.sum()]] += 1
    people, next_number = [], {WOMAN: 0, MAN: 0}
    for (sex, labelled), num_prints in zip(_SHARES, counts.tolist(), strict=True):
        num_single = round(_SINGLE_PRINT_SHARE * num_prints)
        num_single += (num_prints - num_single) % 2
        for k in range((num_prints + num_single) // 2):
            people.append(Person(sex, next_number[sex], 1 if k < num_single else 2, labelled))
            next_number[sex] += 1
    order = np.random.default_rng([seed, num_images]).permutation(len(people))
    return [people[k] for k in order]


def print_parameters(person: Person, k: int, *, seed: int) -> tuple[np.random.Generator, anatomy.PrintParameters]:
    """Parameters of print k of a person (1: the other foot), and the generator that goes on to draw it."""
    rng = np.random.default_rng([seed, person.sex, person.number, 0])
    measurements = anatomy.sample_people(rng, person.sex, 1)[0]
    side = _SIDES[(rng.integers(2) + k) % 2]
    rng = np.random.default_rng([seed, person.sex, person.number, 1 + k])
    return rng, anatomy.sample_parameters(rng, measurements, side)


def draw_person_print(
    person: Person, k: int, *, image_size: tuple[int, int], seed: int
) -> tuple[np.ndarray, anatomy.PrintParameters]:
    """Grey levels, uint8 [H, W], and parameters of print k of a person (1: the other foot), by the arguments alone."""
    rng, parameters = print_parameters(person, k, seed=seed)
    return drawing.draw_print(rng, parameters, image_size), parameters


def draw_dataset(
    root: pathlib.Path,
    *,
    num_images: int,
    image_size: tuple[int, int],
    seed: int,
    progress: Progress | None = None,
) -> None:
    """Draws a data set and writes it to a folder, in one piece or not at all; the same one that is there stays.

    It takes 8 to `MAX_IMAGES` images of at least (60, 40) pixels (height, width); the physical scale follows from their
    size.

    Raises:
      DataError: a parameter makes no sense, root holds something else, or it cannot be written.
    """
    root = pathlib.Path(root)
    image_size = (int(image_size[0]), int(image_size[1]))
    _check_parameters(num_images, image_size, seed)
    parameters = _parameters(num_images, image_size, seed)
    if _is_drawn(root, parameters):
        return
    try:
        with replacing_folder(root) as scratch:
            _write_dataset(scratch, parameters, progress)
    except OSError as error:
        if not _is_drawn(root, parameters):  # another process may have drawn the same meanwhile
            raise _cannot_write(root, error) from error


def _check_parameters(num_images: int, image_size: tuple[int, int], seed: int) -> None:
    if num_images < 8:
        raise DataError(f"data.synthetic.num_images: {num_images} prints are too few for two classes; give 8 or more")
    if num_images > MAX_IMAGES:
        raise DataError(f"data.synthetic.num_images: {num_images} prints are too many; give {MAX_IMAGES} or less")
    if image_size[0] < 60 or image_size[1] < 40:
        raise DataError(f"data.synthetic.image_size: {image_size} (height, width) is too small; give (60, 40) or more")
    if seed < 0:
        raise DataError(f"data.synthetic.seed: {seed} is negative; give 0 or more")


def _parameters(num_images: int, image_size: tuple[int, int], seed: int) -> dict[str, Any]:
    return {
        "drawn_by": "fpclass.data.synthetic",
        "drawing_version": DRAWING_VERSION,
        "num_images": num_images,
        "image_size": list(image_size),
        "seed": seed,
        "mm_per_px": round(drawing.mm_per_px(image_size), 6),
    }


def _is_drawn(root: pathlib.Path, parameters: dict[str, Any]) -> bool:
    """True if root holds this data set, False if there is nothing; anything else is an error."""
    try:
        if not root.exists() or (root.is_dir() and not any(root.iterdir())):
            return False
        existing = json.loads(read_text(root / "parameters.json"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        existing = None
    except OSError as error:
        raise DataError(f"{root}: cannot be read: {error.strerror or error}; choose another folder") from error
    if not isinstance(existing, dict) or existing.get("drawn_by") != parameters["drawn_by"]:
        raise DataError(f"{root}: holds something other than a synthetic data set; give a new folder")
    for key, value in parameters.items():
        if existing.get(key) != value:
            raise DataError(
                f"{root}: holds a synthetic data set with {key} = {existing.get(key)}, not {value}; "
                "choose another folder or remove this one"
            )
    return True


def _cannot_write(root: pathlib.Path, error: OSError) -> DataError:
    reason = error.strerror or error
    return DataError(f"{root}: cannot write the synthetic data set: {reason}; free space or choose another folder")


def _write_dataset(root: pathlib.Path, parameters: dict[str, Any], progress: Progress | None) -> None:
    seed, num_images = parameters["seed"], parameters["num_images"]
    image_size = (parameters["image_size"][0], parameters["image_size"][1])
    folder = root / "processed" / "processed"
    folder.mkdir(parents=True)
    people = plan_people(num_images, seed)
    jobs = [(person, person_id, k) for person_id, person in enumerate(people, 1) for k in range(person.num_prints)]
    drawing.make_grain(image_size)  # once, before threads ask for it

    def draw(row: int) -> dict[str, Any]:
        person, person_id, k = jobs[row]
        grey, print_ = draw_person_print(person, k, image_size=image_size, seed=seed)
        filename = f"img_{row:04d}"
        image = Image.fromarray(np.repeat(grey[..., None], 3, axis=2))
        image.save(folder / f"{filename}.png", compress_level=1)
        return _truth(filename, person_id, person, print_)

    with contextlib.closing(in_threads(draw, num_images)) as rows:
        truth = pd.DataFrame(list(progress(rows, num_images) if progress else rows))
    labels = truth[["filename", "ID"]].assign(SEX=truth["SEX"].map("{:.1f}".format).where(truth["labelled"], ""))
    labels.to_csv(root / "all_labels.csv", index=False)
    (root / "truth").mkdir()
    truth.to_csv(root / "truth" / "truth.csv", index=False)
    (root / "SYNTHETIC.txt").write_text(_NOTICE.format(**parameters), encoding="utf-8")
    (root / "parameters.json").write_text(json.dumps(parameters, indent=2) + "\n", encoding="utf-8")


def _truth(filename: str, person_id: int, person: Person, print_: anatomy.PrintParameters) -> dict[str, Any]:
    return {
        "filename": filename,
        "ID": person_id,
        "SEX": person.sex,
        "labelled": person.labelled,
        "side": print_.side,
        **{name: print_[name] for name in anatomy.NAMES},
        "print_length_mm": round(print_.on_paper_mm("foot_length_mm"), 4),
        "toe_out_deg": print_.toe_out_deg,
        "center_x_mm": print_.center_mm[0],
        "center_y_mm": print_.center_mm[1],
        "ink": print_.ink,
        "defects": ";".join(print_.defects),
    }


_NOTICE = """\
SYNTHETIC DATA. Nobody stood on this paper.

The {num_images} footprints below processed/processed were drawn by a program, {drawn_by} (drawing version
{drawing_version}), with seed {seed}, at {image_size} (height, width) pixels and {mm_per_px} mm per pixel. Feet were
drawn at random from distributions close to published anthropometry; people, feet and classes are invented. A result
on these prints says something about the program that was trained, and nothing about people.

all_labels.csv     filename,ID,SEX as in the competition; SEX is 0.0 (women), 1.0 (men), or empty: to predict
truth/truth.csv    what every print was drawn from, with the class of all rows; not for training
parameters.json    the parameters above
"""


if __name__ == "__main__":
    accuracy, standard_error = bayes_accuracy()
    print(f"Accuracy of the best classifier of one print: {accuracy:.4f} (standard error {standard_error:.4f})")
