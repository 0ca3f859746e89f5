"""Published weights: where they come from, what proves them, and how they get into a network.

- `pretrained`: the variables of a network of ours, loaded by `load`, which takes all arrays or none.
- `source`: from a name or a file to its arrays; `manifest` lists the names, `fetch` and `package` download.
- `formats`, `torch_file`, `torch_pickle`: readers of files, which run nothing that is in them.
- `convert`, `check_fit`: any readable file as safetensors, after it was tried on its network.
- `commands`: the command line.
"""
