"""Sheets of maps: `chosen` says of which images and about what, `sheet` draws them, and writes them down."""
