"""What a model's name in the configuration means: a folder, or a published model."""

from __future__ import annotations

import re
from pathlib import Path

from llmhost.errors import ModelError

__all__ = ["download", "named_folder"]

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def named_folder(name: str, kind: str, hint: str) -> Path | None:
    """The folder that `name` means, None where it is a published model's. A folder starts with ``/``, ``.``
    or ``~``: one that happens to be in the working folder cannot take the place of a published model.

    Raises ModelError, about `kind`, where this is neither a folder nor a name.
    """
    if name.startswith(("/", ".", "~")):
        return Path(name).expanduser().absolute()
    if not _HUB_NAME.fullmatch(name):
        raise ModelError(f"{name!r} is neither a folder nor the name of {kind}", hint=hint)
    return None


def download(name: str, wanted: list[str]) -> Path:
    """The folder with the wanted files of a published model. Raises what huggingface_hub raises."""
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name, allow_patterns=wanted, ignore_patterns=["onnx/*", "openvino/*"]))
