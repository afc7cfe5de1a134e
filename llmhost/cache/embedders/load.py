"""From the configured name to an embedder that runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from llmhost.cache.contracts import Embedder
from llmhost.cache.embedders import exports, weights
from llmhost.errors import ModelError

__all__ = ["embedder_id", "load_embedder"]

#: seconds; the export itself takes about 15, a download over a slow line many minutes
_EXPORT_TIMEOUT = 1800.0
_PREPARING = "preparing the embedding model, once (about 15 s)"


def embedder_id(name: str) -> str | None:
    """The id of the embedder that `name` means, or None where it has not been exported yet. Cheap.

    Raises:
        ModelError: `name` is neither a model's folder nor a model's name.
        StateError: the cache folder cannot be used.
    """
    return exports.remembered(weights.locate(name))


def load_embedder(name: str, *, on_progress: Callable[[str], None]) -> Embedder:
    """The embedder that `name` (see `cache.embedder`) means, ready to run. Blocks.

    The first time, and when the model's files have changed or its export is damaged, the model is
    exported; `on_progress` is told so beforehand.

    Raises:
        ModelError: the model cannot be had, exported or loaded.
        StateError: the cache folder cannot be used.
    """
    source = weights.locate(name)
    known = exports.remembered(source)
    if known is not None:
        try:
            return _open(known)
        except ModelError:
            exports.discard(known)
    on_progress(_PREPARING)
    _export(name)
    made = exports.remembered(source)
    if made is None:
        raise ModelError(f"the embedding model {name} changed while it was being exported", hint="try again")
    return _open(made)


def _open(export: str) -> Embedder:
    from llmhost.cache.embedders.onnx import OnnxEmbedder

    return OnnxEmbedder(exports.folder_of(export))


def _export(name: str) -> None:
    # -P: a torch.py that lies in the user's working folder is not ours to run.
    command = [sys.executable, "-P", "-W", "ignore", "-m", "llmhost.cache.embedders.export", name]
    try:
        finished = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_EXPORT_TIMEOUT,
            env={**os.environ, "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"exporting the embedding model {name} took over {_EXPORT_TIMEOUT:g} s") from error
    except OSError as error:
        raise ModelError(f"cannot export the embedding model {name}: {error.strerror}") from error
    _raise_for(name, finished)


def _raise_for(name: str, finished: subprocess.CompletedProcess[str]) -> None:
    if finished.returncode == 0:
        return
    outcome = _last_json(finished.stdout)
    if outcome is None:
        raise ModelError(
            f"exporting the embedding model {name} ended with exit code {finished.returncode}",
            hint="about 1 GB of free memory is needed",
        )
    raise ModelError(outcome["message"], hint=outcome["hint"])


def _last_json(output: str) -> dict[str, Any] | None:
    try:
        outcome = json.loads(output.strip().rpartition("\n")[2])
    except ValueError:
        return None
    return outcome if isinstance(outcome, dict) and outcome.keys() >= {"message", "hint"} else None
