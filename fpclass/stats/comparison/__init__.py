"""The configs of a cross-validated study beside each other: which is better, and what to expect of the best.

`scores` (of one config, with an interval; resampled once for everything here), `verdicts` (differences and their test),
`family` (p values of many comparisons with one baseline), `selection` (a choice, judged by people who had no say).
"""
