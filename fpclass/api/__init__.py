"""From Python: what `import fpclass` offers beside the command line, which does the same things by the same functions.

`training` (train, study), `keys` (what a caller says of a training, as keys of a config), `trained` (a run or a study,
opened: predict, metrics, figures, tables), `images` (what may be given as images), `prediction` (the answer for one of
them), `figures`, `compare` (which differences are real), `classifier` (the scikit-learn estimator).

Names for users are exported by `fpclass` itself, lazily. Nothing in here ends the process: errors are `FpclassError`s.
"""
