"""The ground floor: what every package above uses and what knows nothing of images.

- `files`, `download`: writing in one step, caches, downloads that resume
- `console`, `flags`, `completion`: lines, bars, and what the commands' flags share
- `threads`, `parallel`, `compilation`: cores, processes and devices, the cache of compiled programs
- `extension`: functions of the user's, by name
"""
