"""What a referee asks of a study beside its table: the person as the unit, evidence, diagnostic accuracy.

- `people`: whose the images are, and the pooling that ensemble.json holds
- `referee`: sections of study.md, entries of results.json, figures
"""
