"""What is decided by a run.

`held_out` (the images that the others are fitted on), `rule` (its calibration and thresholds), `submission`, `people`
(images pooled, evidence, diagnosis), `whose` (whose images files are).
"""
