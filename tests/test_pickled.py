"""The reader of pickles against pickle itself, and against pickles that do harm."""

import contextlib
import os
import pickle
import pickletools
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeface.data.pickled import _STEPS, read_pickle
from edgeface.errors import DataError

PLAIN = st.recursive(
    st.binary(max_size=300) | st.binary().map(bytearray) | st.booleans() | st.integers(-(2**80), 2**80),
    lambda inner: st.lists(inner, max_size=5) | st.lists(inner, max_size=5).map(tuple),
    max_leaves=20,
)


class Code:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@settings(max_examples=150, deadline=None)
@given(value=PLAIN, protocol=st.integers(0, 5))
def test_reads_what_pickle_reads(value, protocol):
    data = pickle.dumps(value, protocol)
    assert repr(read_pickle(data)) == repr(pickle.loads(data)) == repr(value)
    assert repr(read_pickle(pickletools.optimize(data))) == repr(value)


@pytest.mark.parametrize("protocol", range(6))
def test_large_and_odd_bytes(protocol):
    value = (
        [bytes(range(256)) * 300, b"", b"'", b"\n\r\\", "ÿ".encode("latin-1"), bytearray(b"\x80")],
        [True, False, 0, 1],
    )
    found = read_pickle(pickle.dumps(value, protocol))
    assert repr(found) == repr(value)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        # by Python 2.7: pickle.dumps((['\xff\xd8\n', "'"], [True, False]), p)
        (
            b"((lp0\nS'\\xff\\xd8\\n'\np1\naS\"'\"\np2\na(lp3\nI01\naI00\natp4\n.",
            ([b"\xff\xd8\n", b"'"], [True, False]),
        ),
        (b"(]q\x00(U\x03\xff\xd8\nq\x01U\x01'q\x02e]q\x03(I01\nI00\netq\x04.", ([b"\xff\xd8\n", b"'"], [True, False])),
        (
            b"\x80\x02]q\x00(U\x03\xff\xd8\nq\x01U\x01'q\x02e]q\x03(\x88\x89e\x86q\x04.",
            ([b"\xff\xd8\n", b"'"], [True, False]),
        ),
        (b"\x80\x02T\x02\x00\x00\x00\xff\xd8.", b"\xff\xd8"),
        (b"L12345678901234567890L\n.", 12345678901234567890),
    ],
)
def test_reads_what_python_2_wrote(data, value):
    assert read_pickle(data) == value == pickle.loads(data, encoding="bytes")


@pytest.mark.parametrize("protocol", range(6))
def test_code_is_refused_and_not_run(tmp_path, protocol):
    data = pickle.dumps(([b"picture", Code(tmp_path / "ran")], [True]), protocol)
    with pytest.raises(
        DataError, match=r"x.bin, byte \d+: the pickle asks for code, '(posix|nt).system'.*nothing was run"
    ):
        read_pickle(data, "x.bin")
    assert not (tmp_path / "ran").exists()
    pickle.loads(data)  # the same file does run in pickle's hands
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "data",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",  # INST
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
        b"\x80\x02cbuiltins\neval\n\x81.",  # NEWOBJ
        b"\x80\x02\x82\x01.",  # EXT1
        b"P1\n.",  # a persistent id
        b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x05\x00\x00\x00utf-8tR.",
        b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x05\x00\x00\x00rot13tR.",
        b"c_codecs\nencode\n)R.",
        b"c_codecs\nencode\n.",  # a name as the result
        b"cbuiltins\nbytes\n(K\x09tR.",  # bytes(9)
        b"cbuiltins\nbytearray\n(J\xff\xff\xff\x7ftR.",  # 2 GB of zeros
        b"c_codecs.x\nencode\n)R.",
        b"(K\x01K\x02d.",  # a dict
        b"X\x01\x00\x00\x00a.",
        b"N.",
        b"F1.5\n.",
        b"]b.",  # BUILD
    ],
)
def test_everything_else_is_refused(data):
    with pytest.raises(DataError):
        read_pickle(data)


@pytest.mark.parametrize(
    "data",
    [
        b"B\xff\xff\xff\xffab.",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\xffab.",
        b"T\xff\xff\xff\xff.",
        b"\x8b\xff\xff\xff\x7f\x01.",
        b"I" + b"9" * 5000 + b"\n.",
        b"L" + b"9" * 5000 + b"L\n.",
        b"X\x00\x10\x00\x00"
        + b"a" * 4096
        + b"q\x00"
        + b"0c_codecs\nencode\nq\x010"
        + b"]("
        + b"h\x01h\x00U\x06latin1\x86R" * 9
        + b"e.",
        b"p99999999999999999999999\n.",
        b"K\x01p-1\n.",
        b"",
        b".",
        b"(.",
        b"]",
        b"K\x01a.",
        b"(K\x01a.",
        b"h\x00.",
    ],
)
def test_lengths_that_lie_are_refused_at_once(data):
    start = time.perf_counter()
    with pytest.raises(DataError):
        read_pickle(data)
    assert time.perf_counter() - start < 1


def test_one_text_encoded_many_times_is_refused():
    text = b"X\x00\x10\x00\x00" + b"a" * 4096 + b"q\x000X\x06\x00\x00\x00latin1q\x020c_codecs\nencode\nq\x010"
    once = text + b"](" + b"h\x01h\x00h\x02\x86R" + b"e."
    assert read_pickle(once) == [b"a" * 4096]
    with pytest.raises(DataError, match="more bytes than it has"):
        read_pickle(text + b"](" + b"h\x01h\x00h\x02\x86R" * 100 + b"e.")


def test_a_list_that_holds_itself_ends():
    value: list[object] = []
    value.append(value)
    found = read_pickle(pickle.dumps(value))
    assert found[0] is found


def test_nesting_without_end_ends():
    value = read_pickle(b")" + b"\x85" * 300_000 + b".")
    for _ in range(300_000):
        (value,) = value
    assert value == ()


def test_too_many_values(monkeypatch):
    monkeypatch.setattr("edgeface.data.pickled.MAX_OPCODES", 100)
    with pytest.raises(DataError, match="more than 100 values"):
        read_pickle(b"(" + b"K\x01" * 200 + b"l.")


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_else(data):
    with contextlib.suppress(DataError):
        read_pickle(data)


ARGUMENTS = [b"", b"\0", b"\1", b"0\n", b"latin1\n", b"_codecs\nencode\n", b"'a\\x80'\n", b"\3abc", b"\2\0\0\0ab"]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(_STEPS)), st.sampled_from(ARGUMENTS)), max_size=12))
def test_any_program_of_known_opcodes_raises_nothing_else(steps):
    with contextlib.suppress(DataError):
        read_pickle(b"".join(opcode + argument for opcode, argument in steps) + b".")


@settings(max_examples=200, deadline=None)
@given(value=PLAIN, protocol=st.integers(0, 5), data=st.data())
def test_damage_raises_nothing_else(value, protocol, data):
    pickled = bytearray(pickle.dumps(value, protocol))
    pickled[data.draw(st.integers(0, len(pickled) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(DataError):
        read_pickle(bytes(pickled[: data.draw(st.integers(0, len(pickled)))]))
