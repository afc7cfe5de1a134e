"""The one-time export of a sentence-transformers model to ONNX.

Runs as a process of its own (``python -m llmhost.cache.embedders.export MODEL``), so that torch stays
out of the process that asks and its chatter off the user's screen. The last line of stdout is a JSON
object: empty, or `message` and `hint` of what went wrong.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmhost.cache.embedders import check, exports, manifest, weights
from llmhost.errors import LlmhostError, ModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["export", "main"]

#: The only variant: int8 misses the check, and its vectors depend on the processor (docs/embeddings.md).
_VARIANT = "fp32"
_DIGEST_CHARACTERS = 8  #: of the weights' SHA-256 in an id; tells a few dozen models apart
_NAME_CHARACTERS = 40  #: of the model's name in an id, which becomes part of Redis keys
_OPSET = 17  #: the first with LayerNormalization
_OUTPUT = "embedding"
_RAW = "raw.onnx"
_DATA = "model.data"
_DATA_FROM = "1024"  #: bytes; tensors from this size on lie in the data file, where they can be mapped
#: What BERT-like models read where a model does not say.
_USUAL_MAX_TOKENS = 512
_PACKAGES = ("torch", "sentence-transformers", "transformers", "onnxruntime", "tokenizers")


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
        files = weights.fingerprint(folder)
        digest = weights.digest(source, folder)
        identifier = _identifier(source.name, digest)
        if not exports.is_there(identifier):
            _make(source.name, folder, digest, identifier)
        exports.remember(source, files, identifier)


def _identifier(name: str, digest: str) -> str:
    short = re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(name).name).strip("-.")[:_NAME_CHARACTERS]
    return f"{short or 'model'}-{digest[:_DIGEST_CHARACTERS]}-{_VARIANT}"


def _make(name: str, weights_folder: Path, digest: str, identifier: str) -> None:
    model = _load(name, weights_folder)
    folder = exports.new_folder()
    _write_tokenizer(model, folder)
    inputs = _write_graph(model, folder)
    facts = _facts(model, folder, inputs) | {"id": identifier, "model": name, "weights": digest}
    # The check runs what users will run, so the manifest is written before and again after it.
    manifest.write(folder, manifest.Manifest(**facts, checked_texts=0, lowest_cosine=0.0))
    agreement = _check(model, folder, name)
    manifest.write(
        folder,
        manifest.Manifest(
            **facts, checked_texts=agreement.texts, lowest_cosine=round(agreement.lowest_cosine, 7)
        ),
    )
    exports.publish(folder, identifier)


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


def _write_tokenizer(model: Any, folder: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(model.tokenizer.backend_tokenizer.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    (folder / manifest.TOKENIZER).write_text(tokenizer.to_str(), encoding="utf-8")


def _write_graph(model: Any, folder: Path) -> list[str]:
    """Writes the graph, optimised once for all, and its weights; returns the names of its inputs."""
    _trace(model, folder / _RAW)
    _optimise(folder / _RAW, folder / manifest.MODEL)
    (folder / _RAW).unlink()
    import onnxruntime

    from llmhost.cache.embedders.onnx import session_options

    session = onnxruntime.InferenceSession(
        str(folder / manifest.MODEL), session_options(), providers=["CPUExecutionProvider"]
    )
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


def _optimise(raw: Path, optimised: Path) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Not "all": the level above this one lays tensors out for the processor that it runs on.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(optimised)
    for key, value in (("file_name", _DATA), ("min_size_in_bytes", _DATA_FROM)):
        options.add_session_config_entry(f"session.optimized_model_external_initializers_{key}", value)
    onnxruntime.InferenceSession(str(raw), options, providers=["CPUExecutionProvider"])


def _facts(model: Any, folder: Path, inputs: list[str]) -> dict[str, Any]:
    return {
        "format": manifest.FORMAT,
        "variant": _VARIANT,
        "dimensions": int(model.encode("a", show_progress_bar=False).shape[0]),
        "max_tokens": int(model.max_seq_length or _USUAL_MAX_TOKENS),
        "prefix": (model.prompts or {}).get(model.default_prompt_name) or "",
        "unknown_token": _unknown_token(model.tokenizer),
        "inputs": inputs,
        "files": manifest.sizes(folder, [manifest.MODEL, _DATA, manifest.TOKENIZER]),
        "versions": {package: version(package) for package in _PACKAGES},
    }


def _unknown_token(tokenizer: Any) -> int | None:
    """The id of the unknown token, unless every text carries it: some models end each text with it."""
    unknown: int | None = tokenizer.unk_token_id
    return None if unknown in tokenizer("").input_ids else unknown


def _check(model: Any, folder: Path, name: str) -> check.Agreement:
    from llmhost.cache.embedders.onnx import OnnxEmbedder

    def reference(texts: Sequence[str]) -> NDArray[np.float32]:
        vectors: NDArray[np.float32] = model.encode(
            list(texts), normalize_embeddings=True, show_progress_bar=False
        )
        return vectors

    return check.compare(OnnxEmbedder(folder), reference, name)


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
