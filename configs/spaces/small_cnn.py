"""What a small network that is trained from nothing mostly depends on: how fast, how long, how much held back.

Run: python launch.py tune --config=configs/footprints/exp11_adamw_cosine.py --space=configs/spaces/small_cnn.py
"""

SPACE = {
    "optim.learning_rate": ("log", 3e-4, 1e-2),  # between two numbers, each power of ten as likely
    "optim.weight_decay": ("log", 1e-4, 1.0),
    "train.num_epochs": (20, 60),  # between two numbers, here whole ones
    "train.label_smoothing": (0.0, 0.2),
    "augment.erasing_probability": [0.0, 0.2, 0.4],  # one of a list; is a program changed by it, each is compiled once
}
