"""Statistics of predictions: predictions in, numbers with intervals out; no files, no JAX, no figures.

- `cohort`: the labelled images that predictions are judged on, with their groups and folds
- `metrics`, `weighted_metrics`: point values; the same for many weightings at once
- `intervals`: `Bootstrap` over groups, `Interval`, and `evaluate_predictions` (metrics.json)
- `scores`, `comparison`, `selection`, `ensembling`: the configs of a cross-validated study
- `calibration`, `reliability`: calibrated probabilities, and how far from calibrated they are
- `decisions`, `decision_report`: thresholds, costs and conformal sets
- `risk_control`, `promises`: from which confidence on to decide; what is promised of new images
- `fold_average`: the average over folds that predicts new images, made as sure as it may be
- `decision_rule`: a calibration with thresholds, and what they were fitted on
- `evidence`: the person as the unit, likelihood ratios, diagnostic accuracy
- `scrutiny`: subgroups, images from elsewhere, more people, McNemar and DeLong for images in groups
- `original_classes`: errors by the classes before `data.merge`
"""
