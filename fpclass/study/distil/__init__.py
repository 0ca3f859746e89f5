"""Distillation: one network that learns the probabilities of a study's ensemble, and what it loses against it.

What a teacher says of images that it learnt from is too sure of itself, so every target is of members that never saw
the person. For the student of all images that are the members of the image's fold. The student is judged on the images
of a fold by one that knows nothing of them: neither are they among its images, nor did any of its teachers learn from
them. The members of other folds did; so each pair of folds has members of its own, which leave out both, F (F - 1) / 2
for each seed and config. The pair (j, k) says the targets of fold j for the student of fold k, and those of k for that
of j. Weights of the configs and the calibration of the targets are fitted in the same way, once for every student.

- `pairs`: members that leave out two folds.
- `targets`: what the ensemble says of each image, for a student to learn.
- `students`: the students of the folds, and the one of all images.
- `judged`: calibration, thresholds and promises of the student, and its paired difference from the ensemble.
- `distil`: all of it.
"""
