"""Statistics of predictions: predictions in, numbers with intervals out; no files, no JAX, no figures.

- `cohort`: the labelled images that predictions are judged on, with their groups and folds
- `metrics`, `weighted_metrics`: point values; the same for many weightings at once
- `intervals`: `Bootstrap` over groups, `Interval`, and `evaluate_predictions` (metrics.json)
- `draws`: weights of images that come of drawing groups
- `comparison`: the configs of a cross-validated study: scores, verdicts, the choice
- `probabilities`: ensembles, calibration, and how far from calibrated they are
- `decisions`: thresholds, costs, abstention, conformal sets, and what is promised of new images
- `evidence`: the person as the unit, likelihood ratios, diagnostic accuracy
- `scrutiny`: subgroups, images from elsewhere, more people, McNemar and DeLong for images in groups
- `original_classes`: errors by the classes before `data.merge`
"""
