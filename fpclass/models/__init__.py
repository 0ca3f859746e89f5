"""Networks, as the section `model` of a config describes them, and published weights for them.

- `build`: a network from a config, and the forms in which it can be computed.
- `registry`: every architecture by name; `architecture` says what a declaration has, and `architectures` has them.
- `network`: networks of named stages; their head, and how they are split.
- `layers`, `polyphase`, `pooling`, `depthwise`, `transformer`: building blocks.
- `positions`: position embeddings for images of another size.
- `mapping`: rules from published names of arrays to places in a network.
- `pretrained`: the published weights themselves.
"""
