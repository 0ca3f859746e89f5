"""The errors a user meets: one line each, naming the file or key, what is wrong and what to do.

Everything below `fpclass` raises a subclass of `FpclassError` for what a user can mend; the command line prints it as
one line and exits with 2. Any other exception that reaches the user is a defect of this package.
"""

import unicodedata
from collections.abc import Iterable

_DIRECTIONS = frozenset(map(chr, (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))))
"""Characters that turn the direction of writing, by which "gpj.exe" can be shown as "exe.jpg"."""


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


class CacheError(WeightsError):
    """Weights that could be fetched, if the folder of the cache could be written to."""


class TrainingError(FpclassError):
    """Training cannot go on, for example because the loss is not a number any more."""


class LossError(TrainingError):
    """The loss of every training that was going on is not a number any more."""


class MemoryShortage(TrainingError):
    """A training needs more memory than there is."""


OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "out of memory", "OUT_OF_MEMORY", "bad_alloc")
"""What XLA, CUDA and C++ say where memory is not enough."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory is not enough, be it this computer's or a device's."""
    if isinstance(error, MemoryError):
        return True
    # JAX's type is not named here, because most commands never import it.
    return type(error).__name__ in ("JaxRuntimeError", "XlaRuntimeError") and any(
        words.lower() in str(error).lower() for words in OUT_OF_MEMORY
    )


def one_line(error: object, limit: int = 120) -> str:
    """The message of somebody else's exception, fit to stand in one of these lines; its type where it has none."""
    return printable(" ".join(str(error).split()))[:limit] or type(error).__name__


def did_you_mean(word: str, known: Iterable[str], likeness: float = 0.5) -> str:
    """The end of a message about a word that is none of those known: the nearest of them, "" where none is near."""
    import difflib

    close = difflib.get_close_matches(word, list(known), n=1, cutoff=likeness)
    return f", did you mean {close[0]}?" if close else ""


def printable(text: str, keep: str = "") -> str:
    """A text in which nothing moves a cursor, colours, turns the direction of writing or cannot be encoded.

    File names and servers may hold all of that. Such characters are written out as in Python, but those of `keep` stay.
    """
    if text.isprintable():
        return text
    return "".join(letter if letter in keep or not is_control(letter) else _written_out(letter) for letter in text)


def is_control(letter: str) -> bool:
    """Whether a character is a control character, one that formats text invisibly, or half of one."""
    return unicodedata.category(letter) in ("Cc", "Cs") or letter in _DIRECTIONS or letter in "\u2028\u2029"


def _written_out(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
