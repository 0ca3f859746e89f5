"""Explanations: maps of what a network sees.

`methods` has them by name: `cam` by gradients of a stage, `masking` by taking something away, `pixels` by gradients of
the input; `targets` says what a map is about, `stages` names the stages of a network, `maps` scales. `feature_maps`
shows what stages make of an image, `figures` draws. Above data, report and models; nothing in here knows of runs.
"""
