"""Folders of images made fit to train on: `dedupe` (with `sheets`) leaves out copies, `convert` changes the format.

`commands` has their flags. The originals stay as they are.
"""
