"""Where a model's weights are, and what tells one set of weights from another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from llmhost.cache.model_files import download, named_folder, sha256
from llmhost.errors import ModelError

__all__ = ["Source", "digest", "fetch", "fingerprint", "full_name", "locate", "refuse_custom_code"]

#: Who publishes a model whose name has no owner, as sentence-transformers reads it.
_DEFAULT_OWNER = "sentence-transformers"
#: The files that vectors depend on: weights, tokenizer, configuration.
_SUFFIXES = frozenset({".json", ".txt", ".model", ".safetensors", ".bin"})

_HINT = "remove `cache.embedder`, or set it to a folder that holds a sentence-transformers model"


@dataclass(frozen=True, slots=True)
class Source:
    """A model as the configuration names it. `folder` None: it comes from the Hugging Face Hub."""

    name: str
    folder: Path | None


def locate(name: str) -> Source:
    """The model that `name` means. Cheap: imports nothing, reads no file. Raises ModelError where there is no
    such folder, or this is neither a folder nor a name.
    """
    folder = named_folder(name, "an embedding model", _HINT)
    if folder is None:
        return Source(full_name(name), None)
    if not folder.is_dir():
        raise ModelError(f"the embedding model's folder {folder} is not there", hint=_HINT)
    if not any((folder / file).is_file() for file in ("modules.json", "config.json")):
        raise ModelError(f"{folder} holds no sentence-transformers model", hint=_HINT)
    return Source(str(folder), folder)


def full_name(name: str) -> str:
    """A published model's name with its owner."""
    return name if "/" in name else f"{_DEFAULT_OWNER}/{name}"


def fetch(source: Source) -> Path:
    """The folder with the model's files, downloaded from the Hub where it must be. Raises ModelError."""
    if source.folder is not None:
        return source.folder
    # Weights in the safe format first: the other one is a pickle and twice the download.
    wanted = ["*.json", "*.txt", "*.model", "*.safetensors", "*/*.bin"]
    folder = download(source.name, wanted, "embedding model", _HINT)
    if not any(folder.glob("*.safetensors")):
        folder = download(source.name, [*wanted, "*.bin"], "embedding model", _HINT)
    return folder


def fingerprint(folder: Path) -> dict[str, list[int]]:
    """Size and modification time (ns) of every file that the vectors depend on, by relative path. Raises
    ModelError where the folder cannot be read.
    """
    try:
        return {
            str(path.relative_to(folder)): [status.st_size, status.st_mtime_ns]
            for path in _files(folder)
            for status in (path.stat(),)
        }
    except OSError as error:
        raise _unreadable(folder, error) from error


def digest(folder: Path) -> str:
    """SHA-256 over the names and contents of the files that the vectors depend on. Raises ModelError where
    the folder cannot be read.
    """
    try:
        hashes = {str(path.relative_to(folder)): sha256(path) for path in _files(folder)}
    except OSError as error:
        raise _unreadable(folder, error) from error
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    """The files beside modules.json and those in the folders that it names, and no others: a model's
    folder may also hold training checkpoints and exports in other formats."""
    yield from _relevant(folder.iterdir())
    for place in sorted({module["path"] for module in _modules(folder)} - {"", "."}):
        yield from _relevant((folder / place).rglob("*"))


def _relevant(paths: Iterable[Path]) -> list[Path]:
    return sorted(path for path in paths if path.suffix in _SUFFIXES)


def _modules(folder: Path) -> list[dict[str, str]]:
    try:
        listed = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        modules = [{"path": str(module["path"]), "type": str(module["type"])} for module in listed]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder / 'modules.json'} is damaged", hint=_HINT) from error
    for path in (PurePath(module["path"]) for module in modules):
        if path.is_absolute() or ".." in path.parts:
            raise ModelError(f"{folder / 'modules.json'} names a folder outside of the model", hint=_HINT)
    return modules


def refuse_custom_code(folder: Path) -> None:
    """Raises ModelError where the model wants Python code of its own to be run: older versions of
    sentence-transformers trust a local folder without being told to."""
    for module in _modules(folder):
        if not module["type"].startswith("sentence_transformers."):
            raise ModelError(
                f"the embedding model in {folder} brings code of its own, which is not run: {module['type']}",
                hint="choose a model that sentence-transformers can load by itself",
            )


def _unreadable(folder: Path, error: OSError) -> ModelError:
    return ModelError(f"cannot read the embedding model in {folder}: {error.strerror}", hint=_HINT)
