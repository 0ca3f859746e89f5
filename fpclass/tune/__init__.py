"""A search for better values of some keys of a config, by Optuna on the folds of a study.

`space` reads which keys and between what, `search` trains one `trial` after the other, fold by fold, and stops those
that fall behind, `compare` judges what it found on folds that had no say in it, `report` writes it down, and `run` is
all of it in its order. From elsewhere only `commands` is used.
"""
