"""Training: pure functions over a state, the engines that call them in a loop, and what is put in and kept.

- `task`: the network of a config with its weights and data.
- `state`, `keys`: the data set, a member (a seed and its rows), the training state; every random number's address.
- `hyperparameters`: numbers of a config that are data, so that configs share their compiled programs.
- `inputs` (with `inputs.feature_cache`: features of frozen stages, computed once; `inputs.streaming`: images on disk, a
  window at a time), `step`, `optim`, `finetune`, `predict`: what a step is made of.
- `engine`: the interface and `fit`, the loop over epochs; `device_engine` and `stream_engine` implement it, `members`
  trains several members at the same time, and `placement` decides which is used, and where.
- `checkpoints`, `summary`: what is kept, and what a network looks like as a table.

From elsewhere: `placement.place_run` and `place_members`, `engine.fit`, `checkpoints`, `summary`. Nothing in here knows
of run folders.
"""
