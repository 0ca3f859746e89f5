"""The probabilities that predict new images: averaged, calibrated, and how far from calibrated they are.

`ensembling` (weights of configs), `calibration`, `reliability` (ECE and reliability diagrams), `fold_average` (the
average over folds, made as sure as it may be).
"""
