"""Statistics of predictions: predictions in, numbers with intervals out; no files, no JAX, no figures.

`cohort`: the labelled images that predictions are judged on. `metrics`: point values. `weighted_metrics`: the same for
many weightings at once. `intervals`: `Bootstrap` over groups and `Interval`. `scores`, `comparison`, `selection`,
`ensembling`: configs of a cross-validated study. `calibration`, `reliability`, `decisions`: from logits to
probabilities and what is decided by them. `original_classes`: errors by the classes before `data.merge`.
"""
