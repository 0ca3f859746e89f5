"""Data sets: files become a `Table`, decoding fills in the pixels, the audit judges, splits divide.

`table` (the manifest), `sources` (csv, folder, archive, tfds, synthetic), `decode` and `resize` (`Decoding`), `cache`,
`audit`, `perceptual` and `clusters` (near-duplicates), and `splits`; below it `collect`, `synthetic` and `tidy`. It
takes the sections `data` and `split` of a config. Above report, below explain; nothing in here knows of training or
runs.
"""
