"""Exploration of a data set before training: `explore` looks, `page` writes what it saw as HTML, `commands` runs both.

`features`, `judgement`, `label_errors` and `outliers` compute; `figures` and `thumbnails` draw.
"""
