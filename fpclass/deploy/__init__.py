"""From a run or a study to its users: one folder that predicts, and the same model in other formats.

- `bundle`, `weights`: a folder that holds all that predictions need, opened without executing anything of it.
- `write`, `card`: making one of a run or a study, with its model card.
- `source`: whatever predicts, a run, a study or a bundle.
- `graph`: all that is computed of decoded images, as one function of arrays.
- `formats`, `parity`, `export`: the same model in other formats, compared with the bundle on real images.
- `commands`: predict, bundle, export.
- `serve`: the web server: an API, and a page.
"""
