"""Faults put into the bytes of a file, and into what is known to lie in them: JSON, lines, cells of SQLite, numbers."""

import json
import random
import re
import struct
from pathlib import Path
from typing import Any

from parser_targets import change_cell

ODD_NUMBERS = (0, 1, -1, 2, 7, 127, 128, 255, 256, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**63 - 1)
ODD_NUMBERS += (2**63, 2**64 - 1, -(2**31), -(2**63), 10**30)
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, "", "x", "../x", "\0", "ä\ud800", "9" * 400, "1e999", [], {}, [[[]]], {"a": 1}, 1e308, -0.0),
    *(float("nan"), float("inf"), 0.5, -1.5, "None", "2020-01-01T00:00:00+00:00", "a" * 70000, *ODD_NUMBERS),
)
ODD_TEXTS = (
    b"",
    b"\0",
    b"\xff",
    b"\n",
    b"\r\n",
    b",",
    b"\t",
    b'"',
    b"'",
    b"\xef\xbb\xbf",
    b"-1",
    b"1e999",
    b"nan",
    b"..",
)
ODD_TEXTS += (
    b"/",
    b"0x10",
    b"9" * 400,
    b"[" * 3000,
    b"{" * 3000,
    b" " * 5000,
    b"\xf0\x9f\x98\x80",
    "é".encode("latin1"),
)


def mutate(path: Path, rng: random.Random) -> None:
    """Change a file in a random way."""
    data = path.read_bytes()
    if data.startswith(b"SQLite format 3") and rng.random() < 0.6:
        try:
            value = rng.choice(
                (None, 1, -1, 0.5, "x", b"", b"\0" * 8, "a" * 5000, 2**62, data[:64], "1e999", "{}", "[]")
            )
            change_cell(path, value, rng.getrandbits(30))
            for left in path.parent.glob(f"{path.name}-*"):
                left.unlink()
        except Exception:  # the file takes no such change
            return
        return
    if path.suffix in (".json", ".jsonl", ".sig", ".export") and rng.random() < 0.6:
        path.write_bytes(_json(data, rng))
        return
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        data = rng.choice(_MUTATIONS)(data, rng)
    path.write_bytes(data)


def _json(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\n") if b"\n{" in data[:-1] else [data]
    place = rng.randrange(len(lines))
    try:
        value = json.loads(lines[place])
    except ValueError:
        return _text(data, rng)
    lines[place] = json.dumps(_odd(value, rng)).encode()
    return b"\n".join(lines)


def _odd(value: Any, rng: random.Random) -> Any:
    """Return a JSON value with one part of it changed."""
    if rng.random() < 0.9 and isinstance(value, dict) and value:
        key = rng.choice(list(value))
        changed = dict(value)
        match rng.randrange(12):
            case 0:
                del changed[key]
            case 1:
                changed[rng.choice(("", "x", key + "_"))] = changed[key]
            case _:
                changed[key] = _odd(value[key], rng)
        return changed
    if rng.random() < 0.9 and isinstance(value, list) and value:
        row = list(value)
        place = rng.randrange(len(row))
        match rng.randrange(6):
            case 0:
                del row[place]
            case 1:
                row.insert(place, row[place])
            case 2:
                row *= 50
            case _:
                row[place] = _odd(row[place], rng)
        return row
    return rng.choice(ODD_VALUES)


def _flip(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data or b"\0")
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _byte(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data or b"\0")
    changed[rng.randrange(len(changed))] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
    return bytes(changed)


def _word(data: bytes, rng: random.Random) -> bytes:
    kind = rng.choice(("<I", ">I", "<H", ">H", "<Q", ">Q"))
    size = struct.calcsize(kind)
    place = rng.randrange(max(1, len(data) - size))
    number = rng.choice(ODD_NUMBERS) % (1 << 8 * size)
    return data[:place] + struct.pack(kind, number) + data[place + size :]


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _remove(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + data[place + rng.choice((1, 2, 4, 8, 64, 512)) :]


def _repeat(data: bytes, rng: random.Random) -> bytes:
    place, size = rng.randrange(len(data) + 1), rng.choice((1, 4, 8, 64, 512, len(data)))
    return data[: place + size] + data[place : place + size] * rng.choice((1, 2, 20)) + data[place + size :]


def _swap(data: bytes, rng: random.Random) -> bytes:
    one, two = sorted((rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)))
    size = rng.choice((4, 16, 64, 512))
    return data[:one] + data[two : two + size] + data[one + size : two] + data[one : one + size] + data[two + size :]


def _text(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.choice(ODD_TEXTS) + data[place:]


def _digits(data: bytes, rng: random.Random) -> bytes:
    found = list(re.finditer(rb"\d+(\.\d+)?", data))
    if not found:
        return _byte(data, rng)
    match = rng.choice(found[:2000])
    number = rng.choice([str(number).encode() for number in ODD_NUMBERS] + [b"", b"1e999", b"nan", b"0.5"])
    return data[: match.start()] + number + data[match.end() :]


def _line(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\n")
    one, two = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(4):
        case 0:
            del lines[one]
        case 1:
            lines.insert(one, lines[two])
        case 2:
            lines[one], lines[two] = lines[two], lines[one]
        case 3:
            mark = rng.choice((b",", b"\t", b" ", b"="))
            cells = lines[one].split(mark)
            cells[rng.randrange(len(cells))] = rng.choice(ODD_TEXTS)
            lines[one] = mark.join(cells)
    return b"\n".join(lines)


_MUTATIONS = (
    _flip,
    _flip,
    _byte,
    _word,
    _word,
    _word,
    _cut,
    _remove,
    _repeat,
    _swap,
    _text,
    _digits,
    _digits,
    _line,
    _line,
)
