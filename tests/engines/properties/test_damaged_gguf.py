"""Whether a GGUF file is whole: files made here, damaged in every way."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmhost.engines.model_file import check_gguf
from llmhost.errors import ModelError

UINT8, UINT32, STRING, ARRAY = 0, 4, 8, 9
F32, Q4_1, UNKNOWN = 0, 3, 999

IN_ONE_FILE = settings(max_examples=200)


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def tensor(name: bytes, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + sizes + struct.pack("<IQ", kind, offset)


ENTRIES = [
    text(b"general.architecture") + struct.pack("<I", STRING) + text(b"llama"),
    text(b"general.alignment") + struct.pack("<II", UINT32, 64),
    text(b"tokens") + struct.pack("<IIQ", ARRAY, STRING, 2) + text(b"a") + text(b"bc"),
    text(b"scores") + struct.pack("<IIQ", ARRAY, UINT8, 3) + b"\x01\x02\x03",
]
#: 10 x 4 bytes, then from byte 64 on 64 weights in 2 blocks of 20 bytes
TENSORS = [tensor(b"first", (10,), F32, 0), tensor(b"second", (32, 2), Q4_1, 64)]
DATA = bytes(64 + 40)


def model(entries=ENTRIES, tensors=TENSORS, data=DATA, magic=b"GGUF", version=3) -> bytes:
    head = magic + struct.pack("<IQQ", version, len(tensors), len(entries)) + b"".join([*entries, *tensors])
    return head + bytes(-len(head) % 64) + data


@pytest.fixture
def write(tmp_path):
    def to_file(content: bytes):
        path = tmp_path / "model.gguf"
        path.write_bytes(content)
        return path

    return to_file


@pytest.mark.parametrize("version", [2, 3])
def test_both_current_versions_pass(write, version):
    check_gguf(write(model(version=version)))


@pytest.mark.parametrize("missing", range(1, 400, 7))
def test_a_file_that_is_cut_off_is_incomplete(write, missing):
    whole = model()
    expected = "incomplete|not a GGUF file"
    with pytest.raises(ModelError, match=expected):
        check_gguf(write(whole[: max(0, len(whole) - missing)]))


def test_a_tensor_of_a_kind_to_come_is_checked_at_its_start(write):
    tensors = [tensor(b"new", (10,), UNKNOWN, len(DATA))]
    check_gguf(write(model(tensors=tensors)))
    with pytest.raises(ModelError, match="incomplete"):
        check_gguf(write(model(tensors=tensors, data=DATA[:-1])))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "not a GGUF file"),
        (b"GGU", "not a GGUF file"),
        (b"<html>not found</html>", "not a GGUF file"),
        (model(magic=b"GGML"), "not a GGUF file"),
        (model(version=1), "version 1"),
        (model(version=1 << 24), "version 16777216"),
        (model(tensors=[]), "holds no tensors"),
        (model(entries=[text(b"x") + struct.pack("<I", 13)]), "value of type 13"),
        (model(entries=[text(b"x") + struct.pack("<IIQ", ARRAY, ARRAY, 1)]), "value of type 9"),
        (model(entries=[text(b"general.alignment") + struct.pack("<II", UINT32, 0)]), "alignment of 0"),
        (model(entries=[struct.pack("<Q", 1 << 40)]), "name of 1099511627776 bytes"),
        (model(entries=[text(b"x") + struct.pack("<IQ", STRING, 1 << 60)]), "incomplete"),
        (model(entries=[text(b"x") + struct.pack("<IIQ", ARRAY, UINT8, 1 << 60)]), "incomplete"),
        (model(tensors=[tensor(b"x", (1, 1, 1, 1, 1), F32, 0)]), "5 dimensions"),
        (model(tensors=[tensor(b"x", (1 << 63, 1 << 63), F32, 0)]), "incomplete"),
    ],
)
def test_a_file_that_is_something_else_is_told_apart(write, content, expected):
    with pytest.raises(ModelError, match=expected):
        check_gguf(write(content))


@IN_ONE_FILE
@given(st.binary(max_size=200), st.booleans())
def test_garbage_raises_a_model_error_and_nothing_else(write, garbage, has_magic):
    path = write((b"GGUF\x03\x00\x00\x00" if has_magic else b"") + garbage)
    with pytest.raises(ModelError):
        check_gguf(path)


@IN_ONE_FILE
@given(st.integers(0, len(model()) - 1), st.integers(0, 255))
def test_a_changed_byte_raises_a_model_error_or_nothing(write, place, value):
    content = bytearray(model())
    content[place] = value
    with suppress(ModelError):
        check_gguf(write(bytes(content)))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"there is no model file .*/no\.gguf"):
        check_gguf(tmp_path / "no.gguf")


def test_a_folder_is_no_model(tmp_path):
    with pytest.raises(ModelError, match="is not a file"):
        check_gguf(tmp_path)


def test_a_name_that_is_too_long_for_the_system_says_so(tmp_path):
    with pytest.raises(ModelError, match="File name too long"):
        check_gguf(tmp_path / ("x" * 300))
