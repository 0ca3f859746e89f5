"""Writes augment_draws.npz: an image by every operation alone, as this project made it first, for test_settings.py.

Run: python tests/golden/make_augment_draws.py [NAME …] (of new operations only: what is in the file stays what it is)
"""

import pathlib
import sys

import numpy as np

sys.path[:0] = [
    str(folder) for folder in (pathlib.Path(__file__).parents[1] / "augment", pathlib.Path(__file__).parents[2])
]
from test_settings import GOLDEN, ON, run  # noqa: E402


def main() -> None:
    known = dict(np.load(GOLDEN)) if GOLDEN.is_file() else {}
    for key in sys.argv[1:] or ON:
        known.setdefault(key, run(**{key: ON[key]}))
    np.savez_compressed(GOLDEN, **known)


if __name__ == "__main__":
    main()
