"""A web server around a trained model.

commands  the command `serve`
run       the process: uvicorn, signals
app       the paths and their answers; schema documents them
limits    how much and how many; observe: metrics, log lines
page      the page at /, by Gradio; guard: what it may be asked; sizes: other sizes of the input
inputs    the images in a request
service   decoded in threads, predicted in batches (batching), explained (maps); served: the model
jobs      trainings that a client may start
settings  what the owner decides
"""
