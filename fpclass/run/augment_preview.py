"""`fpclass augment-preview`: what training makes of the images, to look at and to keep."""

from __future__ import annotations

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Int, UInt8
from PIL import Image

from fpclass.augment.compose import make_augment_batch
from fpclass.augment.settings import check_classes, describe
from fpclass.common import files
from fpclass.common.console import progress, say
from fpclass.config import Config
from fpclass.data.sources.copies import COLUMNS, TABLE_NAME
from fpclass.data.table import Table
from fpclass.errors import DataError
from fpclass.report.grids import augment_sheet
from fpclass.report.style import figure_format, save_figure
from fpclass.run.prepare import prepare
from fpclass.run.train import make_member
from fpclass.train.inputs import make_augment_epoch
from fpclass.train.keys import view_in, view_keys

MAX_SHEET_ROWS, MAX_SHEET_COPIES = 12, 10
_BATCH_SIZE = 64


def preview(
    config: Config, num_images: int, num_copies: int, output: pathlib.Path, folder: pathlib.Path | None
) -> None:
    """Writes a sheet of training images, evenly over the classes, beside their augmented copies, and these as files.

    Args:
      output: where the sheet goes.
      folder: a new one for the copies and their table; None: they are not kept.

    Raises:
      ConfigError, DataError: of the config and its data; a folder for the copies that holds something.
      RunError: something cannot be written.
    """
    files.check_writable(output)
    figure_format(output)
    if folder:
        _require_new(folder)
    prepared = prepare(config)
    table = prepared.table
    check_classes(config.augment, table.num_classes)
    member = make_member(config, prepared)
    train_rows = np.asarray(member.train_rows)
    train_rows = train_rows[~table.copy_mask[train_rows]]  # no copies of copies
    rows = choose_rows(train_rows, table.labels[train_rows], num_images)
    originals = prepared.images[rows]
    copies = make_copies(config, int(member.seed), rows, originals, table.labels[rows], num_copies)
    shown = min(len(rows), MAX_SHEET_ROWS)
    switched_on = describe(config.augment)
    title = f"{config.name}: training images and augmented copies"
    notes = [f"On: {switched_on}."]
    if config.augment.mixup_alpha or config.augment.cutmix_alpha:
        notes.append("Mixup and CutMix come after this and are not shown.")
    sheet = augment_sheet(
        originals[:shown],
        copies[:shown, :MAX_SHEET_COPIES],
        [table.class_names[k] for k in table.labels[rows[:shown]]],
        table.rows["filename"].iloc[rows[:shown]].tolist(),
        f"{title} (SYNTHETIC)" if table.is_synthetic else title,
        " ".join([*notes, prepared.note]).strip(),
        table.shapes(rows[:shown]),
    )
    save_figure(sheet, output)
    say(f"on: {switched_on}")
    say(f"written: {output}, {shown} of {len(rows)} images with {min(num_copies, MAX_SHEET_COPIES)} copies each")
    if folder:
        groups = prepared.splits.frame["unit"].to_numpy(str)
        save_copies(folder, copies_table(table, groups, rows, num_copies), copies)
        say(f"written: {folder / TABLE_NAME} and {copies.shape[0] * copies.shape[1]} augmented images")
        say(f"to train on them beside their originals: the same config and data, and --config.data.copies={folder}")
    if prepared.note:
        say(prepared.note)


def choose_rows(rows: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"], num: int) -> Int[np.ndarray, " m"]:
    """Chooses rows evenly over the classes, and within a class evenly over the table.

    At most `num`, class by class; fewer where a class has too few.
    """
    classes = np.unique(labels)
    chosen = []
    for i, label in enumerate(classes):
        members = np.sort(rows[labels == label])
        wanted = min(num // len(classes) + (i < num % len(classes)), len(members))
        chosen.append(members[np.linspace(0, len(members) - 1, wanted).round().astype(int)])
    return np.concatenate(chosen)


def make_copies(
    config: Config,
    seed: int,
    rows: Int[np.ndarray, " n"],
    images: UInt8[np.ndarray, "n h w c"],
    labels: Int[np.ndarray, " n"],
    num_copies: int,
) -> UInt8[np.ndarray, "n k h w c"]:
    """Augments images as the training of a config does in its first epochs, and undoes the normalising.

    What lies outside of black and white is cut off. `seed` is that of the member that trains, `rows` are the positions
    of the images in the table.
    """
    mean, std, num_views = np.array(config.data.mean), np.array(config.data.std), config.finetune.cache_views
    augment_view = make_augment_batch(config.augment, mean=config.data.mean, std=config.data.std)
    augment_epoch = make_augment_epoch(config)

    @jax.jit
    def batch(epoch: jax.Array, rows: jax.Array, images: jax.Array, labels: jax.Array) -> jax.Array:
        if num_views:
            augmented = augment_view(view_keys(view_in(epoch, rows, num_views), rows), images, labels)
        else:
            augmented = augment_epoch(seed, epoch, rows, images, labels)
        return jnp.clip(jnp.round(255 * (augmented * std + mean)), 0, 255).astype(jnp.uint8)

    copies = np.empty((len(rows), num_copies, *images.shape[1:]), np.uint8)
    size = min(_BATCH_SIZE, len(rows))
    parts = [(k, start) for k in range(num_copies) for start in range(0, len(rows), size)]
    for k, start in progress(parts, len(parts), "augment"):
        end = min(start + size, len(rows))
        padded = np.minimum(np.arange(start, start + size), end - 1)
        made = batch(jnp.int32(k), jnp.asarray(rows[padded]), jnp.asarray(images[padded]), jnp.asarray(labels[padded]))
        copies[start:end, k] = np.asarray(made)[: end - start]
    return copies


def save_copies(folder: pathlib.Path, frame: pd.DataFrame, copies: UInt8[np.ndarray, "n k h w c"]) -> None:
    """Writes augmented copies as PNGs in a folder for each class, and their table; all of it or nothing.

    Args:
      folder: new, or empty.
      frame: from `copies_table`.

    Raises:
      DataError: the folder holds something, or cannot be written.
    """
    _require_new(folder)
    try:
        with files.replacing_folder(folder) as scratch:
            for name, pixels in progress(
                zip(frame["filename"], copies.reshape(-1, *copies.shape[2:]), strict=True), len(frame), "save"
            ):
                path = scratch / name
                path.parent.mkdir(exist_ok=True)
                Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(path)
            files.write_csv(scratch / TABLE_NAME, frame)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{folder}: cannot write ({reason}); free space or give another --save") from error


def copies_table(table: Table, groups: np.ndarray, rows: Int[np.ndarray, " n"], num_copies: int) -> pd.DataFrame:
    """One row per copy: filename, label, group, original, copy, synthetic.

    The labels are those of the source, also where the config puts classes together. `groups` is what splits of the
    originals keep together, of every row of the table: people with everybody who shares an image.
    """
    labels = table.rows["original" if table.originals else "raw_label"]
    lines = []
    for row in rows:
        of, label = table.rows.iloc[int(row)], labels.iloc[int(row)]
        home, stem = (
            re.sub(r"[^\w.-]+", "_", text).lstrip(".") or "_" for text in (label, pathlib.PurePath(of["filename"]).stem)
        )
        for k in range(num_copies):
            lines.append(
                {
                    "filename": f"{home}/{row:06d}-{stem}-copy{k + 1}.png",
                    "label": label,
                    "group": groups[row],
                    "original": of["filename"],
                    "copy": k + 1,
                    "synthetic": "SYNTHETIC" if table.is_synthetic else "",
                }
            )
    return pd.DataFrame(lines, columns=list(COLUMNS))


def _require_new(folder: pathlib.Path) -> None:
    try:
        is_new = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}); give another --save") from error
    if not is_new:
        raise DataError(f"{folder}: holds something already; give a new folder to --save, nothing is overwritten")
