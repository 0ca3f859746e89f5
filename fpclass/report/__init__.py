"""The look of figures: functions that take arrays and give a matplotlib Figure.

`style` has colours, sizes and panels and writes files, `charts` draws numbers, `side_by_side` those of several configs,
`grids` draws images. Above stats, augment and models; nothing in here knows of data sets or runs. All of it imports
matplotlib, which takes its time.
"""
