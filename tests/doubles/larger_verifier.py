"""A larger verifier of a few hundred bytes: its log-odds are what a test wants."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from llmhost.cache.model_files import read_manifest, sha256, sizes, write_manifest
from llmhost.cache.model_input import INPUTS
from llmhost.cache.verifiers.load import FOLDER
from llmhost.cache.verifiers.manifest import MANIFEST, MODEL, TOKENIZER, Manifest, damaged


def small_manifest() -> Manifest:
    return read_manifest(FOLDER / MANIFEST, Manifest, damaged(FOLDER))


def make_larger(folder: Path, log_odds: float, by_second: float = 0.0, **manifest: Any) -> Path:
    """The folder, with a model that gives `log_odds`, and `by_second` for the number of each token of the
    wording that it is given second. `manifest` is what its manifest says otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    nodes = [
        helper.make_node("Mul", ["input_ids", "token_type_ids"], ["second"]),
        helper.make_node("ReduceSum", ["second", "axis"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["numbers", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["log_odds"]),
    ]
    shape = ["batch", "sequence"]
    graph = helper.make_graph(
        nodes,
        "larger",
        [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in INPUTS],
        [helper.make_tensor_value_info("log_odds", TensorProto.FLOAT, ["batch"])],
        [
            helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
            helper.make_tensor("scale", TensorProto.FLOAT, [], [by_second]),
            helper.make_tensor("shift", TensorProto.FLOAT, [], [log_odds]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / MODEL)
    shutil.copy(FOLDER / TOKENIZER, folder / TOKENIZER)
    hashes = {name: sha256(folder / name) for name in (MODEL, TOKENIZER)}
    small = small_manifest()
    said: dict[str, Any] = {
        "id": "larger",
        "max_tokens": small.max_tokens,
        "unknown_token": small.unknown_token,
        "slope": 1.0,
        "intercept": 0.0,
        "small": 0.35,
        "beside": small.id,
    }
    files = {"files": sizes(folder, hashes), "sha256": hashes}
    write_manifest(folder / MANIFEST, Manifest(**{**said, **files, **manifest}))
    return folder
