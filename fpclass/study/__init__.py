"""Studies: many configs on every fold, or one split, with every seed, and which differences between them are real.

`study` (the folder and its configs), `plan` (what it compares, by which folds), `run` and `training` (their members,
each a run folder), `ahead` (the next config's programs, compiled while one trains), `estimate` (how long they will
take), `metric` (what they are compared by), `out_of_fold` (what members that never saw a person predict of their
images), `test_set` (labelled test images), `new_images` (how much the average over folds is sharpened), `conclude`
with `report`, `figures`, `gallery` and `training_table` (its tables, figures and verdicts), `evidence` and `scrutiny`
(what a referee asks for beside them), `freeze_sweep` (a study over cut points), `trained` (what a finished study is
used for); `commands` has the command line.

From elsewhere: `study.Study`, `out_of_fold.collect`.
"""
