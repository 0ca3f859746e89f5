"""Decisions by probabilities: thresholds, costs, abstention and conformal sets, and what is promised of new images.

`thresholds` (thresholds, costs, risk against coverage, conformal quantiles), `risk_control` (from which confidence on
to decide), `report` (all of it, cross-fitted), `promises` (what `predict` gives with them), `rule` (a calibration with
thresholds, and what they were fitted on).
"""
