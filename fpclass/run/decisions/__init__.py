"""What is decided by a run.

`rule` (its calibration and thresholds, fitted on the inner split), `submission`, `people` (images pooled, evidence,
diagnosis), `whose` (whose images files are).
"""
