"""Explanations: maps of what a network sees.

`stages` names the stages of a network, `grad_cam` and `feature_maps` compute, `figures` draws. Above data, report and
models; nothing in here knows of runs.
"""
