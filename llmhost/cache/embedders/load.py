"""From the configured name to an embedder that runs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from llmhost.cache.contracts import TextEmbedder
from llmhost.cache.embedders import exports, weights
from llmhost.cache.model_files import verify_files
from llmhost.errors import ModelError
from llmhost.machine.child import bare_environment, python_command

__all__ = ["check_embedder", "load_embedder"]

#: The model that comes with llmhost.
_BUILTIN = "sentence-transformers/all-MiniLM-L6-v2"
#: What an export needs, all of it in the extra `embedders`.
_EXPORTERS = ("sentence_transformers", "torch", "onnx")
#: seconds; the export itself takes about 15, a download over a slow line many minutes
_EXPORT_TIMEOUT = 1800.0
#: variables that say where models are kept, and how the Hub is reached
_OF_EXPORTS = ("HF_", "HUGGINGFACE_", "TRANSFORMERS_", "TORCH_", "LLMHOST_", "XDG_", "SSL_", "REQUESTS_")
_QUIET = {"PYTHONWARNINGS": "ignore", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
_PREPARING = "Preparing the embedding model (once, about 15 s) …"


def load_embedder(name: str, *, on_progress: Callable[[str], None]) -> TextEmbedder:
    """The embedder that `name` (see `cache.embedder`) means, ready to run. Blocks.

    The default model is part of llmhost. Any other is exported the first time, and when its files have
    changed or its export is damaged; `on_progress` gets a line before that.

    Raises:
        ModelError: the model is damaged, or cannot be had, exported or loaded.
        StateError: the cache folder cannot be used.
    """
    if _is_builtin(name):
        return _open(exports.BUILTIN)
    source = weights.locate(name)
    known = exports.remembered(source)
    if known is not None:
        try:
            return _open(exports.folder_of(known))
        except ModelError:
            exports.discard(known)
    _require_exporters(name)
    on_progress(_PREPARING)
    _export(name)
    made = exports.remembered(source)
    if made is None:
        raise ModelError(f"the embedding model {name} changed while it was being exported", hint="try again")
    return _open(exports.folder_of(made))


def check_embedder(name: str) -> str:
    """Whether what `name` means can be used, as far as that can be seen without loading, fetching or
    exporting it, in a sentence. Hashes the files of a model that is ready. Blocks.

    Raises:
        ModelError: it is missing, damaged, or cannot be exported here.
        StateError: the cache folder cannot be used.
    """
    source = None if _is_builtin(name) else weights.locate(name)
    known = exports.remembered(source) if source else None
    if source is None or known is not None:
        folder = exports.folder_of(known) if known else exports.BUILTIN
        verify_files(folder / exports.MANIFEST, exports.Manifest, exports.damaged(folder))
        return f"{name} is ready"
    _require_exporters(name)
    if source.folder is None:
        return f"{name} is downloaded from the Hugging Face Hub and prepared on first use"
    return f"{name} is prepared on first use, once"


def _is_builtin(name: str) -> bool:
    return weights.full_name(name) == _BUILTIN


def _open(folder: Path) -> TextEmbedder:
    from llmhost.cache.embedders.onnx import OnnxEmbedder

    return OnnxEmbedder(folder)


def _require_exporters(name: str) -> None:
    if any(find_spec(package) is None for package in _EXPORTERS):
        raise ModelError(
            f"the embedding model {name} needs sentence-transformers",
            hint="run `pip install 'llmhost[embedders]'`, or remove `cache.embedder`",
        )


def _export(name: str) -> None:
    try:
        finished = subprocess.run(
            python_command("llmhost.cache.embedders.export", name),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_EXPORT_TIMEOUT,
            env=bare_environment(*_OF_EXPORTS) | _QUIET,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"exporting the embedding model {name} took over {_EXPORT_TIMEOUT:g} s") from error
    except OSError as error:
        raise ModelError(f"cannot export the embedding model {name}: {error.strerror}") from error
    if finished.returncode == 0:
        return
    try:
        outcome = json.loads(finished.stdout.strip().rpartition("\n")[2])
        message, hint = outcome["message"], outcome["hint"]
    except (ValueError, KeyError, TypeError):
        message = f"exporting the embedding model {name} ended with exit code {finished.returncode}"
        hint = "about 1 GB of free memory is needed"
    raise ModelError(message, hint=hint)
