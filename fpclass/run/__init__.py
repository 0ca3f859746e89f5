"""One run folder: what a command reads, does and leaves behind in it.

In the order of the data flow: `folder` (files, lock, format), `prepare` (audited table, images, roles), `train` and
`log` (the trainer, also of studies), `best` (the weights that are used), `predictions`, `evaluate`, `error_analysis`,
`original_classes`, `explain`, `decisions` (calibration, thresholds, the submission), `predictor` (new images),
`augment_preview`; `stages` (which of these are done); `commands` has the command line.

From elsewhere: `folder.Run`, `prepare.Prepared`, `train.train_together`, `best.BestModel`, `predictions.Predictions`,
`predictor.Predictor`.
"""
