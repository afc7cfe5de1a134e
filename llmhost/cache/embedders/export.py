"""The one-time export of a sentence-transformers model to ONNX.

Runs as a process of its own (``python -m llmhost.cache.embedders.export MODEL``), so that torch stays
out of the process that asks and its chatter off the user's screen. The last line of stdout is a JSON
object: empty, or `message` and `hint` of what went wrong.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmhost.cache.contracts import Embedder
from llmhost.cache.embedders import exports, weights
from llmhost.cache.model_files import sha256, sizes, write_manifest
from llmhost.errors import LlmhostError, ModelError

__all__ = ["TEXTS", "compare", "export", "identifier", "main", "write_model"]

#: The arithmetic: int8 misses the check, and its vectors depend on the processor (docs/embeddings.md).
_VARIANT = "fp32"
_DIGEST_CHARACTERS = 8  #: of the weights' SHA-256 in an id; tells a few dozen models apart
_NAME_CHARACTERS = 40  #: of the model's name in an id, which becomes part of Redis keys
_OPSET = 17  #: the first with LayerNormalization
_OUTPUT = "embedding"
_RAW = "raw.onnx"
_DATA_FROM = "1024"  #: bytes; tensors from this size on are stored in the data file, where they can be mapped
#: What BERT-like models read where a model does not say.
_USUAL_MAX_TOKENS = 512
_PACKAGES = ("torch", "sentence-transformers", "transformers", "onnxruntime", "tokenizers")
#: Lowest cosine similarity between an exported model's vector and the original's. Decisions are taken at
#: steps of 0.01, and two vectors this close differ in any similarity by at most 0.045, mostly far less.
MIN_COSINE = 0.999
#: A model that can read fewer of the texts than this has not been checked.
MIN_COMPARED = 12
#: What an exported model and its original are compared on.
TEXTS: tuple[str, ...] = tuple(json.loads((Path(__file__).parent / "texts.json").read_text("utf-8")))


def export(name: str) -> None:
    """Makes the exported model that `name` means be there.

    Raises:
        ModelError: the model cannot be had, exported, or does not agree with the original.
        StateError: the cache folder cannot be used.
    """
    source = weights.locate(name)
    with exports.exclusive():
        if exports.remembered(source) is not None:  # another process was faster
            return
        folder = weights.fetch(source)
        weights.refuse_custom_code(folder)
        files, digest = weights.fingerprint(folder), weights.digest(folder)
        export_id = identifier(source.name, digest)
        if not exports.is_there(export_id):
            unfinished = exports.new_folder()
            write_model(source.name, folder, digest, unfinished)
            exports.publish(unfinished, export_id)
        exports.remember(source, files, export_id)


def identifier(name: str, digest: str) -> str:
    """The id of an embedder, from its model's name and the digest of what it is made from."""
    short = re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(name).name).strip("-.")[:_NAME_CHARACTERS]
    return f"{short or 'model'}-{digest[:_DIGEST_CHARACTERS]}-{_VARIANT}"


def write_model(
    name: str,
    weights_folder: Path,
    digest: str,
    folder: Path,
    *,
    shrink: Callable[[Path], None] | None = None,
    min_cosine: float = MIN_COSINE,
) -> None:
    """Exports the model into `folder`, checks what is there, and writes its manifest. `shrink` may change the
    graph, whose path it gets, and the weights beside it before they are checked. Raises ModelError where the
    model cannot be exported, or does not agree with the original.
    """
    from llmhost.cache.embedders.onnx import OnnxEmbedder
    from llmhost.machine.heavy import tokenizers

    model = _load(name, weights_folder)
    tokenizer = tokenizers.Tokenizer.from_str(model.tokenizer.backend_tokenizer.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    (folder / exports.TOKENIZER).write_text(tokenizer.to_str(), encoding="utf-8")
    inputs = _write_graph(model, folder)
    if shrink is not None:
        shrink(folder / exports.MODEL)
    # The check runs what users will run, so the manifest is written before and again after it.
    manifest = _manifest(model, folder, name, digest, inputs)
    write_manifest(folder / exports.MANIFEST, manifest)

    def reference(texts: Sequence[str]) -> NDArray[np.float32]:
        vectors: NDArray[np.float32] = model.encode(
            list(texts), normalize_embeddings=True, show_progress_bar=False
        )
        return vectors

    texts, lowest = compare(OnnxEmbedder(folder), reference, name, min_cosine)
    write_manifest(
        folder / exports.MANIFEST, replace(manifest, checked_texts=texts, lowest_cosine=round(lowest, 7))
    )


def _load(name: str, folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(
        str(folder),
        device="cpu",
        local_files_only=True,
        trust_remote_code=False,
        model_kwargs={"attn_implementation": "eager"},  # plain operations, which the exporter knows
    )
    if getattr(getattr(model, "tokenizer", None), "backend_tokenizer", None) is None:
        raise ModelError(
            f"the embedding model {name} is of a kind that cannot be exported",
            hint="choose a model that reads text with a transformer and a fast tokenizer",
        )
    return model.float().eval()


def _write_graph(model: Any, folder: Path) -> list[str]:
    """Writes the graph, optimised once for all, and its weights; returns the names of its inputs."""
    from llmhost.cache.embedders.onnx import THREADS
    from llmhost.cache.model_session import open_session
    from llmhost.machine.heavy import onnxruntime

    raw, optimised = folder / _RAW, str(folder / exports.MODEL)
    _trace(model, raw)
    options = onnxruntime.SessionOptions()
    # Not "all": the level above this one lays tensors out for the processor that it runs on.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = optimised
    for key, value in (("file_name", exports.DATA), ("min_size_in_bytes", _DATA_FROM)):
        options.add_session_config_entry(f"session.optimized_model_external_initializers_{key}", value)
    onnxruntime.InferenceSession(str(raw), options, providers=["CPUExecutionProvider"])
    raw.unlink()
    session = open_session(Path(optimised), THREADS, optimised=True)
    return [node.name for node in session.get_inputs()]


def _trace(model: Any, path: Path) -> None:
    import torch

    # Two texts of different lengths, so that padding and the attention mask are traced too.
    sample = dict(model.tokenizer(["two words here", "one"], padding=True, return_tensors="pt"))
    axes = {name: {0: "batch", 1: "sequence"} for name in sample}
    with torch.no_grad():
        torch.onnx.export(
            _whole_model(model, list(sample)),
            tuple(sample.values()),
            str(path),
            input_names=list(sample),
            output_names=[_OUTPUT],
            dynamic_axes={**axes, _OUTPUT: {0: "batch"}},
            opset_version=_OPSET,
            dynamo=False,
        )


def _whole_model(model: Any, inputs: Sequence[str]) -> Any:
    """All of the model's modules, pooling included, as one torch module from token ids to unit vectors."""
    import torch

    class Whole(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *values: Any) -> Any:
            features = dict(zip(inputs, values, strict=True))
            for module in self.model:
                features = module(features)
            return torch.nn.functional.normalize(features["sentence_embedding"], p=2, dim=1)

    return Whole().eval()


def _manifest(model: Any, folder: Path, name: str, digest: str, inputs: list[str]) -> exports.Manifest:
    files = sizes(folder, [exports.MODEL, exports.DATA, exports.TOKENIZER])
    # Some models end each text with the unknown token: there it says nothing.
    unknown = model.tokenizer.unk_token_id
    says_nothing = unknown in model.tokenizer("").input_ids
    return exports.Manifest(
        id=identifier(name, digest),
        model=name,
        weights=digest,
        dimensions=int(model.encode("a", show_progress_bar=False).shape[0]),
        max_tokens=int(model.max_seq_length or _USUAL_MAX_TOKENS),
        prefix=(model.prompts or {}).get(model.default_prompt_name) or "",
        unknown_token=None if says_nothing else unknown,
        inputs=inputs,
        files=files,
        sha256={file: sha256(folder / file) for file in files},
        versions={package: version(package) for package in _PACKAGES},
    )


def compare(
    embedder: Embedder,
    reference: Callable[[Sequence[str]], NDArray[np.float32]],
    name: str,
    min_cosine: float = MIN_COSINE,
) -> tuple[int, float]:
    """Compares the embedder on `TEXTS` with `reference`, which gives one row of unit length for each text.
    Returns how many texts were compared, and the lowest cosine similarity among them. Raises ModelError where
    they differ, or the embedder cannot read most of the texts.
    """
    vectors = {text: vector for text in TEXTS if (vector := embedder.embed(text)) is not None}
    if len(vectors) < MIN_COMPARED:
        raise _unusable(f"reads only {len(vectors)} of {len(TEXTS)} short texts", name)
    expected = reference(list(vectors))
    lowest = min(float(ours @ theirs) for ours, theirs in zip(vectors.values(), expected, strict=True))
    if not lowest >= min_cosine:  # also where it is NaN
        raise _unusable(
            f"exported to ONNX, differs from the original: cosine {lowest:.4f}, needed {min_cosine}", name
        )
    return len(vectors), lowest


def _unusable(problem: str, name: str) -> ModelError:
    return ModelError(f"the embedding model {name}, {problem}", hint="set `cache.embedder` to another model")


def main(name: str) -> int:
    """Exports, prints the outcome, and returns the exit code."""
    try:
        export(name)
    except LlmhostError as error:
        outcome = {"message": error.message, "hint": error.hint}
    except Exception as error:  # noqa: BLE001 - whatever a model's files set off in torch and its friends
        first_line = str(error).strip().partition("\n")[0]
        problem = f"{type(error).__name__}: {first_line}"
        outcome = {
            "message": f"cannot export the embedding model {name}: {problem}",
            "hint": "check the model's files, or set `cache.embedder` to another model",
        }
    else:
        outcome = {}
    print(json.dumps(outcome))  # noqa: T201 - this is the answer to the parent process
    return 1 if outcome else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
