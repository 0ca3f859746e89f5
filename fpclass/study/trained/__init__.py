"""What a finished study is used for: its chosen ensemble on the rows to predict, on new images, explained.

- `ensemble`: weights, calibration and thresholds of ensemble.json; submission, predictions of files
- `explain`: the mean of its members' Grad-CAM
- `conclusions`: what it said at its end, said again
- `frozen`, `validate`: all of it, as it stands, on another labelled data set
- `commands`: evaluate, explain, predict and validate, of a run folder or a study folder
"""
