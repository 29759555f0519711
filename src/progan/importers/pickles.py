"""A check of pickles before anything unpickles them: which operations, which globals, how much memory.

A pickle is a program for a stack machine. This module runs it on a stack of descriptions, which takes no more memory
than the pickle's own length allows, and refuses what a file of weights does not need. So a file cannot name a function
to call, allocate memory that it does not hold, or nest its keys until their hashes overflow the stack.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from typing import Any, BinaryIO

PICKLE_LIMIT = 500_000  # bytes; a thousand tensors take 150,000. Unpickled, a crafted one takes up to 100 times that
SETTINGS = "models.utils.config.BaseConfig"  # a class of pytorch_GAN_zoo without behaviour, in its checkpoints

_STORAGES = {  # bytes of a number, by class
    "DoubleStorage": 8,
    "FloatStorage": 4,
    "HalfStorage": 2,
    "BFloat16Storage": 2,
    "LongStorage": 8,
    "IntStorage": 4,
    "ShortStorage": 2,
    "CharStorage": 1,
    "ByteStorage": 1,
    "BoolStorage": 1,
}
_DICT, _REBUILDS = "collections.OrderedDict", ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter")
_ALLOWED = {_DICT, *_REBUILDS, SETTINGS, *(f"torch.{name}" for name in _STORAGES)}
_PLAIN = {
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1"), "int"),
    **dict.fromkeys(("BINFLOAT", "NONE", "NEWTRUE", "NEWFALSE"), "plain"),
    "BINUNICODE": "str",
    "EMPTY_LIST": "list",
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(slots=True)
class _Item:
    """What is known of a value: its kind, and the value of a str, an int or a tuple, or the keys of a dict, if any."""

    kind: str
    value: Any = None


def check_pickle(stream: BinaryIO, file_size: int) -> None:
    """Check one pickle, and leave the stream behind its end.

    Args:
        stream: Stream at the beginning of the pickle.
        file_size: Number of bytes of the whole file, which bounds the sizes of the tensors.

    Raises:
        ValueError: If the pickle is damaged, or does what no file of weights needs.
    """
    machine, operations = _Machine(file_size), pickletools.genops(stream)
    while True:
        try:
            opcode, argument, _ = next(operations)
        except StopIteration:
            return
        except ValueError as error:
            raise ValueError(f"its pickle is damaged: {error}") from None
        try:
            machine.run(opcode.name, argument)
        except (IndexError, KeyError, TypeError, AttributeError):
            raise ValueError("its pickle is damaged or crafted: an operation lacks its values") from None


class _Machine:
    """The stack machine of pickles, on descriptions of values."""

    def __init__(self, file_size: int) -> None:
        self.file_size = file_size
        self.stack: list[_Item] = []
        self.below: list[list[_Item]] = []  # stacks under each mark
        self.memo: dict[int, _Item] = {}
        self.storages: dict[str, int] = {}  # bytes, by key
        self.total = 0  # bytes of all storages

    def run(self, name: str, argument: Any) -> None:
        """Run one operation."""
        stack = self.stack
        if name in _PLAIN:
            stack.append(_Item(_PLAIN[name], argument))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "MARK":
            self.below.append(stack)
            self.stack = []
        elif name == "GLOBAL":
            self._name_global(argument.replace(" ", "."))
        elif name == "EMPTY_DICT":
            stack.append(_Item("dict"))
        elif name == "EMPTY_TUPLE":
            stack.append(_Item("tuple", ()))
        elif name == "TUPLE":
            self._end_of_mark().append(_Item("tuple", tuple(stack)))
        elif name in _TUPLES:
            stack.append(_Item("tuple", tuple(self._pop(_TUPLES[name]))))
        elif name in ("APPEND", "APPENDS"):
            self._pop(1) if name == "APPEND" else self._end_of_mark()
            _expect(self.stack[-1].kind == "list", "a list to append to")
        elif name == "SETITEM":
            self._set_items(self._pop(2))
        elif name == "SETITEMS":
            self._end_of_mark()
            self._set_items(stack)
        elif name in ("REDUCE", "NEWOBJ"):
            self._call(name)
        elif name == "BUILD":
            self._build()
        elif name == "BINPERSID":
            self._storage()
        elif name == "PROTO":
            _expect(argument == 2, "protocol 2")
        elif name == "STOP":
            _expect(len(stack) == 1 and not self.below, "one value at its end")
        else:
            raise ValueError(f"its pickle uses the operation {name}, which no file of weights needs")

    def _end_of_mark(self) -> list[_Item]:
        """Go back to the stack below the last mark, and return it."""
        self.stack = self.below.pop()
        return self.stack

    def _pop(self, n: int) -> list[_Item]:
        if len(self.stack) < n:
            raise IndexError
        popped = self.stack[-n:]
        del self.stack[-n:]
        return popped

    def _name_global(self, name: str) -> None:
        if name not in _ALLOWED:
            raise ValueError(
                f"its pickle asks for {name[:100]}, which no file of weights needs; nothing of it was run. If you "
                "trust it, load it in the program that wrote it, and save the state dicts alone"
            )
        self.stack.append(_Item("global", name))

    def _set_items(self, pairs: list[_Item]) -> None:
        into, keys = self.stack[-1], pairs[::2]
        _expect(into.kind in ("dict", "ordered") and len(pairs) % 2 == 0, "pairs for a dict")
        into.value = into.value or set()
        for key in keys:
            _expect(key.kind in ("str", "int"), "texts or ints as keys")
            if key.value in into.value:
                raise ValueError(f"its pickle has the name {str(key.value)[:100]!r} twice in one dict")
            into.value.add(key.value)

    def _call(self, name: str) -> None:
        function, arguments = self._pop(2)
        _expect(function.kind == "global" and arguments.kind == "tuple", "a call of a known function")
        if name == "NEWOBJ":
            _expect(function.value == SETTINGS and not arguments.value, "new objects of settings only")
            self.stack.append(_Item("settings"))
        elif function.value == _DICT:
            _expect(not arguments.value, "dicts that are empty at first")
            self.stack.append(_Item("ordered"))
        else:
            _expect(function.value in _REBUILDS, "calls that build tensors")
            self.stack.append(_Item("tensor"))

    def _build(self) -> None:
        target, state = self.stack[-2], self._pop(1)[0]
        _expect(state.kind in ("dict", "ordered"), "a dict as state")
        # A state_dict has this attribute; any other could hide a method of the dict.
        _expect(
            target.kind == "settings" or (target.kind == "ordered" and (state.value or set()) <= {"_metadata"}),
            "known states",
        )

    def _storage(self) -> None:
        """Add up the sizes of storages: those of different keys cannot be larger than the file."""
        what, kind, key, _, numbers, *_ = self._pop(1)[0].value
        _expect(what.value == "storage" and kind.kind == "global", "a storage")
        _expect(key.kind == "str" and numbers.kind == "int", "a storage")
        size = numbers.value * _STORAGES[kind.value.removeprefix("torch.")]
        if key.value not in self.storages:
            self.storages[key.value] = size
            self.total += size
        _expect(size >= 0 and self.storages[key.value] == size, "one size for each storage")
        if self.total > self.file_size:
            raise ValueError(f"its tensors take {self.total:,} bytes, and the file has {self.file_size:,}")
        self.stack.append(_Item("storage"))


def _expect(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(f"its pickle is damaged or crafted: expected {what}")
