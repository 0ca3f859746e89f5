"""The parts of drawn footprints lie where their ink is."""

import numpy as np

from fpclass.data.synthetic.dataset import draw_person_print, plan_people
from fpclass.data.synthetic.parts import PARTS, draw_parts


def test_parts_cover_the_ink_from_toes_to_heel():
    size, seed = (150, 100), 3
    person = plan_people(8, seed)[0]
    grey, _ = draw_person_print(person, 0, image_size=size, seed=seed)
    parts = draw_parts("img_0000", num_images=8, image_size=size, seed=seed)
    assert parts.shape == size
    assert (parts[grey < 100] > 0).mean() > 0.9
    assert (grey[parts == 0] > 200).mean() > 0.95
    rows = [np.flatnonzero((parts == k).any(axis=1)).mean() for k in range(1, len(PARTS) + 1)]
    assert rows == sorted(rows)
