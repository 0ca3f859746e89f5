"""The pickles in PyTorch's files, read without ever running what is in them.

Unpickling means executing: `pickle` would import and call whatever a file names. Here a small machine of its own knows
only the opcodes that state dicts are written with, keeps the few names that rebuild tensors as words, and calls
nothing: what comes out are containers, numbers, words, and descriptions of how tensors lie in their storages.

Source: torch._utils and torch.serialization of PyTorch 2; PEP 307, 3154.
"""

from __future__ import annotations

import dataclasses
import pickletools
from collections.abc import Callable
from typing import IO, Any

import numpy as np

MAX_STEPS = 2_000_000
"""Of one pickle: opcodes, and arguments that are gone through; a thousand arrays take some 50 thousand."""

STORAGES = {
    "FloatStorage": "f4", "HalfStorage": "f2", "BFloat16Storage": "bfloat16", "DoubleStorage": "f8",
    "LongStorage": "i8", "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1",
    "BoolStorage": "b1",
}  # fmt: skip


class Refused(Exception):
    """What is wrong with a file; the reader adds its name."""


@dataclasses.dataclass(frozen=True, slots=True)
class Name:
    """A class or function that a pickle names: a word, not the thing."""

    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Storage:
    """A row of numbers: `size` of them, or a part of it that begins at `start`."""

    key: str
    type: str
    size: int
    start: int = 0

    @property
    def num_bytes(self) -> int:
        """Of the whole storage in the file."""
        return self.size * (2 if self.type == "bfloat16" else np.dtype(self.type).itemsize)


@dataclasses.dataclass(frozen=True, slots=True)
class Tensor:
    """How an array lies in its storage; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Machine:
    """Executes a pickle as far as state dicts need it."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []  # what lies below each mark
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}  # whole ones by key, of all tensors wherever they are
        self.num_steps = 0

    def run(self, file: IO[bytes]) -> Any:
        """What the next pickle of a file describes: containers, numbers, words, `Tensor`s.

        Raises:
          Refused: it is damaged, or does anything else.
        """
        try:
            for opcode, argument, _ in pickletools.genops(file):
                self.count_steps(1)
                if opcode.name == "STOP":
                    break
                if opcode.name not in _STEPS:
                    named = f" {argument!r}" if opcode.name == "INST" else ""
                    raise Refused(f"its pickle uses {opcode.name}{named}, which no state dict needs: refused")
                _STEPS[opcode.name](self, argument)
            return self.stack.pop()
        except (ValueError, LookupError, TypeError, MemoryError) as error:
            raise Refused(f"its pickle is damaged ({error}); get the file again") from None

    def count_steps(self, number: int) -> None:
        """Counts work, so that a small file cannot make much of it."""
        self.num_steps += number
        if self.num_steps > MAX_STEPS:
            raise Refused(f"its pickle has more than {MAX_STEPS} steps; a state dict takes far fewer")

    def push(self, value: Any) -> None:
        """Puts a value on top."""
        self.stack.append(value)

    def memorise(self, key: int | None) -> None:
        """Keeps the value on top, under a number or the next one."""
        self.memo[len(self.memo) if key is None else key] = self.stack[-1]

    def mark(self, argument: None) -> None:
        """Begins a row of values."""
        self.outer.append(self.stack)
        self.stack = []

    def pop_to_mark(self) -> list[Any]:
        """What was pushed since the last mark."""
        items, self.stack = self.stack, self.outer.pop()
        return items

    def make_tuple(self, size: int) -> None:
        """Makes a tuple of the last values."""
        if len(self.stack) < size:
            raise IndexError("too few values for a tuple")
        self.stack[-size:] = [tuple(self.stack[-size:])]

    def append(self, items: list[Any]) -> None:
        """Adds to the list on top."""
        _expect(self.stack[-1], list).extend(items)

    def set_items(self, items: list[Any]) -> None:
        """Adds keys and values, by turns, to the dict on top."""
        target = _expect(self.stack[-1], dict)
        for key, value in _pairs(items):
            # Of no other type: the hash of nested tuples can take for ever, as can large numbers with the same hash.
            if not isinstance(key, str) and not (type(key) is int and abs(key) < 2**31):
                raise Refused(f"its pickle has a key that is a {type(key).__name__.lstrip('_')}, expected a name")
            if key in target:
                raise Refused(f"has two entries named {str(key)[:60]!r}")
            target[key] = value

    def name(self, argument: str | None) -> None:
        """GLOBAL, STACK_GLOBAL: a class or function; that is where hostile files begin."""
        if argument is None:
            name, module = _expect(self.stack.pop(), str), _expect(self.stack.pop(), str)
        else:
            module, _, name = argument.partition(" ")
        text = f"{module}.{name}"
        if text not in _REBUILDERS and not (module in ("torch", "torch.cuda") and name in STORAGES):
            raise Refused(
                f"its pickle asks for {text[:100]!r}, and only tensors and containers are read: refused; "
                "do not open it with anything that runs what it asks for"
            )
        self.stack.append(Name(text))

    def call(self, argument: None) -> None:
        """REDUCE: what would be a call becomes a description."""
        arguments, function = _expect(self.stack.pop(), tuple), _expect(self.stack.pop(), Name)
        if function.text not in _REBUILDERS:
            raise Refused(f"its pickle calls {function.text!r}: refused")
        # The arguments may be a row of the memo, gone through again at every call.
        self.count_steps(len(arguments))
        self.count_steps(sum(len(argument) for argument in arguments if isinstance(argument, (list, tuple))))
        self.stack.append(_REBUILDERS[function.text](*arguments))

    def build(self, argument: None) -> None:
        """BUILD: attributes, such as the version numbers of modules; nobody needs them."""
        self.stack.pop()
        if not isinstance(self.stack[-1], (dict, Tensor)):
            raise Refused("its pickle sets attributes of something that is not a tensor or container: refused")

    def storage(self, argument: None) -> None:
        """BINPERSID: ("storage", class, key, place, number of elements), in the older format a view behind it."""
        reference = self.stack.pop()
        if not isinstance(reference, tuple) or len(reference) not in (5, 6) or reference[0] != "storage":
            raise Refused("its pickle refers to something that is not a storage: refused")
        class_, key, size = _expect(reference[1], Name), _expect(reference[2], str), _count(reference[4])
        type_ = STORAGES.get(class_.text.rpartition(".")[2])
        if type_ is None:
            raise Refused(f"its pickle has a storage of class {class_.text!r}: refused")
        start = 0
        if len(reference) == 6 and reference[5] is not None:
            _, start, view_size = _expect(reference[5], tuple)
            if _count(start) + _count(view_size) > size:
                raise Refused(f"its storage {key[:20]!r} has a view that reaches beyond it")
        whole = Storage(key, type_, size)
        if self.storages.setdefault(key, whole) != whole:
            raise Refused(f"its storage {key[:20]!r} has two types or sizes")
        self.stack.append(Storage(key, type_, size, start))


def _expect(value: Any, type_: type) -> Any:
    if not isinstance(value, type_):
        raise TypeError(f"a {type(value).__name__.lstrip('_')} where a {type_.__name__.lstrip('_')} belongs")
    return value


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**60:
        raise ValueError("a size that is not one")
    return value


def _pairs(items: list[Any]) -> list[tuple[Any, Any]]:
    return list(zip(items[::2], items[1::2], strict=True))


def _ordered_dict(items: Any = ()) -> dict[Any, Any]:
    """Empty, and filled by further steps; Python 2 handed the pairs over at once."""
    machine = Machine()
    machine.stack.append({})
    for pair in items if isinstance(items, list) else _expect(items, tuple):
        # One by one: a row of n times the same row of n values, which is small as a pickle, never becomes n^2 values.
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise ValueError("an ordered dict of what are not pairs")
        machine.set_items(list(pair))
    return machine.stack[0]


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> Tensor:
    shape, strides = _expect(shape, tuple), _expect(strides, tuple)
    if len(shape) != len(strides) or len(shape) > 16:
        raise ValueError("a tensor with as many strides as it has not dimensions")
    return Tensor(
        _expect(storage, Storage), _count(offset), tuple(map(_count, shape)), tuple(map(_count, strides))
    )  # rest: whether it needs gradients, hooks, metadata


def _rebuild_parameter(tensor: Any, *rest: Any) -> Tensor:
    return _expect(tensor, Tensor)


_REBUILDERS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor": _rebuild_tensor,  # of PyTorch before 0.4, as the next but one
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch.nn.parameter.Parameter": _rebuild_parameter,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch.Size": lambda sizes: _expect(sizes, tuple),
}
"""What a state dict may ask for, and what it gets instead."""

_STEPS: dict[str, Callable[[Machine, Any], None]] = {
    # The argument is the value.
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"), Machine.push),
    **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE", "BINSTRING", "SHORT_BINSTRING"), Machine.push),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    **dict.fromkeys(("PROTO", "FRAME"), lambda machine, _: None),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT", "MEMOIZE"), Machine.memorise),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda machine, key: machine.push(machine.memo[key])),
    "MARK": Machine.mark,
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_to_mark())),
    "TUPLE1": lambda machine, _: machine.make_tuple(1),
    "TUPLE2": lambda machine, _: machine.make_tuple(2),
    "TUPLE3": lambda machine, _: machine.make_tuple(3),
    "APPEND": lambda machine, _: machine.append([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.pop_to_mark()),
    "SETITEM": lambda machine, _: machine.set_items([machine.stack.pop(-2), machine.stack.pop()]),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_to_mark()),
    **dict.fromkeys(("GLOBAL", "STACK_GLOBAL"), Machine.name),
    "REDUCE": Machine.call,
    "BUILD": Machine.build,
    "BINPERSID": Machine.storage,
}
