"""The errors a user meets: one line each, naming the file or key, what is wrong and what to do.

Everything below `fpclass` raises a subclass of `FpclassError` for what a user can mend; the command line prints it as
one line and exits with 2. Any other exception that reaches the user is a defect of this package.
"""


def one_line(error: object) -> str:
    """What somebody else's error says, short and in one line; its kind where it says nothing."""
    return " ".join(str(error).split())[:120] or type(error).__name__


class FpclassError(Exception):
    """Something that the user can mend. The message is one line: where, what was met, what to do."""


class ConfigError(FpclassError):
    """A config key that does not exist, has another type, or holds a value that makes no sense."""


class DataError(FpclassError):
    """The data set as given cannot be used: a missing file or column, a label out of range, an empty class."""


class DecodeError(FpclassError):
    """One image that cannot be decoded. The audit lists it; only commands about that one image raise it."""


class RunError(FpclassError):
    """A run folder that does not fit: of another config, without a checkpoint, locked, or not writable."""


class WeightsError(FpclassError):
    """Pretrained weights that are missing, broken, unknown, hostile, or of another architecture."""


class TrainingError(FpclassError):
    """Training cannot go on, for example because the loss is not a number any more."""
