"""report.html and methods.md of a study folder, made of its files alone: no members, no images, no weights.

`sections` are those that a run has not: the comparison with the baseline, and what study.md says of people, evidence,
subgroups and learning curves; `write` puts them beside those of `fpclass.run.report`. `write.write_report` takes a
folder of either kind.
"""
