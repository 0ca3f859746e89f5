"""Images of another data set that are copies of those that a run or a study was made with, to the pixel or nearly."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from fpclass.config import Config
from fpclass.data.clusters import copies_of
from fpclass.data.perceptual import Fingerprints
from fpclass.data.table import Table
from fpclass.errors import FpclassError
from fpclass.run.prepare import decode_data

IDENTICAL, NEAR = "identical", "nearly the same"


@dataclasses.dataclass(frozen=True)
class Copies:
    """What each image of another data set is a copy of.

    Attributes:
      copy_of: name of the file in the folder's data, "" for no copy, [N].
      kind: `IDENTICAL` or `NEAR`, "" for no copy, [N].
      why_not: why near copies were not looked for, or not among all images; "" where they were.
    """

    copy_of: np.ndarray
    kind: np.ndarray
    why_not: str = ""

    def count(self, kind: str) -> int:
        """How many are of this kind."""
        return int((self.kind == kind).sum())


def find_copies(table: Table, facts: pd.DataFrame, known: Any, trained_on: Config, similarity: float) -> Copies:
    """Looks for the images of a folder among the labelled ones of another data set.

    Args:
      table: audited, of the other data set; facts are of decoding it.
      known: as `Frozen.known`, the images of the folder.
      trained_on: config that names the folder's data, decoded as the others are: near copies are told by the pictures,
        which have to be at hand for that.
      similarity: as `data.near_duplicates`; 0: near copies are not looked for.
    """
    copy_of, kind = (np.full(len(table), "", object) for _ in range(2))
    is_labelled = table.labelled_mask
    for column in ("sha256", "pixel_sha256"):
        digests = known[column].fillna("").astype(str)
        files = dict(zip(digests[::-1], known["filename"][::-1], strict=True))  # the first of several
        files.pop("", None)
        found = np.array([files.get(digest, "") for digest in table.rows[column]], object)
        is_new = is_labelled & (found != "") & (kind == "")
        copy_of[is_new], kind[is_new] = found[is_new], IDENTICAL
    if not similarity:
        return Copies(copy_of, kind, "near copies are not looked for (data.near_duplicates is 0)")
    own: Any = ConfigDict(trained_on.to_dict())
    own.evaluate.subgroups = ()  # asked of the other images: these may lack the column
    try:
        there, _, of_folder = decode_data(own.lock())
    except FpclassError as error:
        return Copies(
            copy_of, kind, f"near copies are not looked for, as the images learnt from are not there: {error}"
        )
    is_known = of_folder["sha256"].isin(known["sha256"].to_list())
    is_there = (is_known & (of_folder["phash"] != "")).to_numpy(bool)
    rows = np.flatnonzero(is_labelled & (kind == ""))
    prints, others = (Fingerprints.from_facts(of) for of in (facts.iloc[rows], of_folder.loc[is_there]))
    positions = copies_of(prints, others, similarity)
    near, names = positions >= 0, there.rows["filename"].to_numpy()[is_there]
    copy_of[rows[near]], kind[rows[near]] = names[positions[near]], NEAR
    missing = len(set(known["sha256"]) - set(of_folder["sha256"]))
    why_not = f"{missing} of its {len(known)} images are no longer at hand: their near copies are not found"
    return Copies(copy_of, kind, why_not if missing else "")
