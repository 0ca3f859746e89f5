"""Image search to labelled folders, with a record of where every picture is from; `commands` has the flags.

`plan` (what to look for), `backends` and `search` (addresses), `address` and `client` (polite fetching), `download` and
`provenance` (files, and the table of them).
"""
