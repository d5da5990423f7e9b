"""Plain values out of a pickle, read opcode by opcode; nothing is ever imported, looked up or called.

Files of the field are pickles of bytes, numbers and lists, and a pickle can run any code on whoever loads it.
This reader knows the opcodes that build such values and refuses all others, so the worst that a file can do is
to be refused. Opcodes as in CPython's `Lib/pickletools.py`, protocols 0 to 5.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from edgeface.errors import DataError

MAX_OPCODES: Final = 20_000_000
"""A file with more is refused: an opcode of one byte makes a value of fifty."""

MAX_INT_BYTES: Final = 256
"""No longer integer is read."""

_INTEGER = re.compile(rb"[+-]?[0-9]{1,600}L?")
_ESCAPE = re.compile(rb"\\(?:[\\'\"nrt]|x[0-9a-fA-F]{2})")
_PLAIN = {rb"\\": b"\\", rb"\'": b"'", rb"\"": b'"', rb"\n": b"\n", rb"\r": b"\r", rb"\t": b"\t"}
_LATIN = ("latin1", "latin-1")
_BYTES = frozenset({"__builtin__.bytes", "builtins.bytes"})
_BYTEARRAY = frozenset({"__builtin__.bytearray", "builtins.bytearray"})
_ADMITTED = frozenset({"_codecs.encode"}) | _BYTES | _BYTEARRAY


@dataclass(frozen=True, slots=True)
class _Global:
    """A name that the pickle asks for; only ever compared, never resolved."""

    name: str


class _Mark:
    """Where a list or tuple begins on the stack."""


_MARK = _Mark()


def read_pickle(data: bytes, name: str = "pickle") -> Any:
    """Read a pickle of bytes, bytearrays, integers, booleans, lists and tuples, nested as one likes.

    Python 2's `str` comes back as bytes. Values that a pickle names twice are one object here too.

    Args:
        data: the whole pickle; what follows its end is ignored.
        name: what to call it in an error.

    Raises:
        DataError: the pickle holds anything else, text and `None` included, asks for code, is cut short or is
            too long.
    """
    machine = _Machine(data, name)
    try:
        value = machine.run()
    except (IndexError, KeyError, struct.error, UnicodeError):
        raise DataError(
            f"{name} is not a whole pickle: byte {machine.place} cannot be read; copy or download it again"
        ) from None
    _refuse_others(value, name)
    return value


def _refuse_others(value: Any, name: str) -> None:
    """Texts and names may stand in an argument, but not in what comes out."""
    waiting, seen = [value], set[int]()
    while waiting:
        item = waiting.pop()
        if isinstance(item, list | tuple):
            if id(item) not in seen:
                seen.add(id(item))
                waiting.extend(item)
        elif not isinstance(item, bytes | bytearray | int):
            kind = f"the name {item.name}" if isinstance(item, _Global) else "text"
            raise DataError(f"{name} holds {kind}; only bytes, numbers, lists and tuples are read")


class _Machine:
    """The stack machine that a pickle is a program for, with the harmless instructions only."""

    def __init__(self, data: bytes, name: str) -> None:
        self.data = data
        self.name = name
        self.place = 0
        """Where the opcode in work begins."""
        self._next = 0
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._room = len(data)
        """Bytes that calls may still make: repeating one text many times would fill the memory."""

    def run(self) -> Any:
        for _ in range(MAX_OPCODES):
            self.place = self._next
            opcode = self._take(1)
            if opcode == b".":
                return self._pop()
            step = _STEPS.get(opcode)
            if step is None:
                raise DataError(
                    f"{self.name}, byte {self.place}: the pickle has the opcode {opcode!r}, which plain bytes, numbers "
                    "and lists do not need; it was refused and nothing was run"
                )
            step(self)
        raise DataError(f"{self.name} has more than {MAX_OPCODES:,} values; split it into smaller files")

    def _take(self, count: int) -> bytes:
        """Return the next `count` bytes; a length from the file is checked before anything is made."""
        start = self._next
        if count < 0 or count > len(self.data) - start:
            raise IndexError
        self._next = start + count
        return self.data[start : self._next]

    def _number(self, form: str) -> int:
        value: int = struct.unpack("<" + form, self._take(struct.calcsize(form)))[0]
        return value

    def _line(self) -> bytes:
        end = self.data.find(b"\n", self._next)
        if end < 0:
            raise IndexError
        return self._take(end + 1 - self._next)[:-1].rstrip(b"\r")

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise IndexError
        return value

    def _pop_to_mark(self) -> list[Any]:
        for index in range(len(self._stack) - 1, -1, -1):
            if self._stack[index] is _MARK:
                items = self._stack[index + 1 :]
                del self._stack[index:]
                return items
        raise IndexError

    def _last(self) -> Any:
        if self._stack[-1] is _MARK:
            raise IndexError
        return self._stack[-1]

    def _remember(self, key: int) -> None:
        if key < 0:
            raise KeyError
        self._memo[key] = self._last()

    def _text_key(self) -> int:
        line = self._line()
        if not line.isdigit() or len(line) > 10:
            raise KeyError
        return int(line)

    def _push_integer(self) -> None:
        """INT and LONG: decimal digits; `00` and `01` are booleans of old protocols."""
        line = self._line()
        if line in (b"00", b"01"):
            return self._push(line == b"01")
        if not _INTEGER.fullmatch(line):
            raise IndexError
        return self._push(int(line.rstrip(b"L")))

    def _push_long(self, form: str) -> None:
        count = self._number(form)
        if not 0 <= count <= MAX_INT_BYTES:
            raise DataError(
                f"{self.name}, byte {self.place}: an integer of {count} bytes; at most {MAX_INT_BYTES} are read"
            )
        self._push(int.from_bytes(self._take(count), "little", signed=True))

    def _push_quoted(self) -> None:
        """STRING: Python 2's repr of a byte string."""
        line = self._line()
        if len(line) < 2 or line[:1] not in (b"'", b'"') or line[-1:] != line[:1]:
            raise IndexError
        body = line[1:-1]
        if b"\\" in _ESCAPE.sub(b"", body):
            raise IndexError
        self._push(_ESCAPE.sub(lambda m: _PLAIN.get(m[0]) or bytes([int(m[0][2:], 16)]), body))

    def _append(self, items: list[Any]) -> None:
        target = self._last()
        if not isinstance(target, list):
            raise IndexError
        target.extend(items)

    def _name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise IndexError
        full = f"{module}.{name}"
        if full not in _ADMITTED:
            raise DataError(
                f"{self.name}, byte {self.place}: the pickle asks for code, {full[:80]!r}; it was refused and "
                "nothing was run. Use a file of plain bytes from a source that you trust"
            )
        self._push(_Global(full))

    def _reduce(self) -> None:
        """The three ways in which plain bytes are written as a call; their results are made here by hand."""
        arguments, function = self._pop(), self._pop()
        if not isinstance(function, _Global) or not isinstance(arguments, tuple):
            raise IndexError
        kinds = tuple(type(argument) for argument in arguments)
        result: bytes
        if kinds == (str, str) and arguments[1] in _LATIN and function.name not in _BYTES:
            result = arguments[0].encode("latin-1")
        elif kinds == () and function.name != "_codecs.encode":
            result = b""
        elif kinds == (bytes,) and function.name in _BYTEARRAY:
            result = arguments[0]
        else:
            raise DataError(
                f"{self.name}, byte {self.place}: the pickle calls {function.name} with other arguments than bytes "
                "are written with; it was refused and nothing was run"
            )
        self._room -= len(result)
        if self._room < 0:
            raise DataError(f"{self.name} unfolds to more bytes than it has; it was refused")
        self._push(bytearray(result) if function.name in _BYTEARRAY else result)

    def _tuple(self, count: int) -> None:
        items = [self._pop() for _ in range(count)]
        self._push(tuple(reversed(items)))

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        self._name(module, name)


_STEPS: Final[dict[bytes, Callable[[_Machine], None]]] = {
    b"\x80": lambda m: void(m._number("B")),  # PROTO
    b"\x95": lambda m: void(m._number("Q")),  # FRAME: only a hint for readers of streams
    b"(": lambda m: m._push(_MARK),
    b"0": lambda m: void(m._stack.pop()),  # POP, of a mark too
    b"1": lambda m: void(m._pop_to_mark()),
    b"2": lambda m: m._push(m._last()),
    # integers and booleans
    b"I": lambda m: m._push_integer(),
    b"L": lambda m: m._push_integer(),
    b"K": lambda m: m._push(m._number("B")),
    b"M": lambda m: m._push(m._number("H")),
    b"J": lambda m: m._push(m._number("i")),
    b"\x8a": lambda m: m._push_long("B"),
    b"\x8b": lambda m: m._push_long("i"),
    b"\x88": lambda m: m._push(True),
    b"\x89": lambda m: m._push(False),
    # bytes, and the str of Python 2
    b"S": lambda m: m._push_quoted(),
    b"U": lambda m: m._push(m._take(m._number("B"))),
    b"T": lambda m: m._push(m._take(m._number("i"))),
    b"C": lambda m: m._push(m._take(m._number("B"))),
    b"B": lambda m: m._push(m._take(m._number("I"))),
    b"\x8e": lambda m: m._push(m._take(m._number("Q"))),
    b"\x96": lambda m: m._push(bytearray(m._take(m._number("Q")))),
    # text, only as an argument of the calls below
    b"V": lambda m: m._push(m._line().decode("raw-unicode-escape")),
    b"\x8c": lambda m: m._push(m._take(m._number("B")).decode()),
    b"X": lambda m: m._push(m._take(m._number("I")).decode()),
    b"\x8d": lambda m: m._push(m._take(m._number("Q")).decode()),
    # lists and tuples
    b"]": lambda m: m._push([]),
    b"l": lambda m: m._push(m._pop_to_mark()),
    b"a": lambda m: m._append([m._pop()]),
    b"e": lambda m: m._append(m._pop_to_mark()),
    b")": lambda m: m._push(()),
    b"t": lambda m: m._push(tuple(m._pop_to_mark())),
    b"\x85": lambda m: m._tuple(1),
    b"\x86": lambda m: m._tuple(2),
    b"\x87": lambda m: m._tuple(3),
    # memo
    b"p": lambda m: m._remember(m._text_key()),
    b"q": lambda m: m._remember(m._number("B")),
    b"r": lambda m: m._remember(m._number("I")),
    b"\x94": lambda m: m._remember(len(m._memo)),
    b"g": lambda m: m._push(m._memo[m._text_key()]),
    b"h": lambda m: m._push(m._memo[m._number("B")]),
    b"j": lambda m: m._push(m._memo[m._number("I")]),
    # the names and calls that bytes are written with before protocol 3, and bytearrays before 5
    b"c": lambda m: m._name(m._line().decode(), m._line().decode()),
    b"\x93": lambda m: m._stack_global(),
    b"R": lambda m: m._reduce(),
}


def void(_value: object) -> None:
    """Drop a value."""
