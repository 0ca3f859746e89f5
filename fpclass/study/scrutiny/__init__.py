"""What a referee asks of a study beside its table: subgroups, more people, tests by name, the checklist.

`subgroups`, `clustered` and `checklist` are parts of the study's conclusion; `learning_curve` is a study of its own,
whose configs differ in their share of the people.
"""
