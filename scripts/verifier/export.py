"""From the trained model to the files that users get: ONNX of small numbers, tokenizer, manifest."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import onnx
import torch
from onnx.external_data_helper import set_external_data
from onnxruntime.quantization import QuantType, quantize_dynamic
from tokenizers import Tokenizer

from llmhost.cache.model_files import sha256, sizes, write_manifest
from llmhost.cache.verifiers import manifest as manifests
from verifier.model import INPUTS, MAX_TOKENS, CrossEncoder, Encoder

__all__ = ["export", "finish_manifest"]

_OPSET = 17
_ID_DIGITS = 8
_UNKNOWN = "[UNK]"

#: weights in a row that share a scale, where each has four bits
_BLOCK = 64
_COMPUTE_IN_INT8 = 4  #: onnxruntime's level of accuracy

#: bytes; a repository and an index of packages take no file that is much larger
_LARGEST_FILE = 50_000_000
#: bytes; smaller weights stay in the graph's own file
_SMALL = 1024
_WEIGHTS = "weights.{}.data"


def export(model: CrossEncoder, encoder: Encoder, out: Path, *, in_blocks: bool) -> None:
    """Writes the files; the manifest's calibration is still that of the bare model. `in_blocks`: four bits a
    weight, and a scale for each block of weights. A large model loses much in int8, little in blocks, which
    take twice the time. Its weights lie in files of their own."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.onnx"
        _trace(model, encoder, raw)
        (_in_blocks if in_blocks else _in_bytes)(raw, out / manifests.MODEL)
    _write_tokenizer(encoder, out)
    finish_manifest(out, 1.0, 0.0)


def _in_bytes(raw: Path, to: Path) -> None:
    # Seven bits: eight overflow on processors without VNNI, and answers must not depend on the processor.
    quantize_dynamic(raw, to, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True)


def _in_blocks(raw: Path, to: Path) -> None:
    """The word pieces' vectors in eight bits, as nothing is multiplied with them."""
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    blocks = MatMulNBitsQuantizer(
        str(raw), bits=4, block_size=_BLOCK, is_symmetric=True, accuracy_level=_COMPUTE_IN_INT8
    )
    blocks.process()
    half = raw.with_name("blocks.onnx")
    blocks.model.save_model_to_file(str(half))
    quantize_dynamic(half, to, op_types_to_quantize=["Gather"], weight_type=QuantType.QUInt8)
    _in_files(to)


def _in_files(path: Path) -> None:
    """Moves the weights out of the graph's file into as few others as the limit allows."""
    for old in path.parent.glob(_WEIGHTS.format("*")):
        old.unlink()
    model = onnx.load(path)
    number, filled = 0, 0
    for weights in model.graph.initializer:
        size = len(weights.raw_data)
        if size < _SMALL:
            continue
        if filled + size > _LARGEST_FILE:
            number, filled = number + 1, 0
        set_external_data(weights, _WEIGHTS.format(number))
        filled += size
    onnx.save(model, path)
    for one in path.parent.glob(_WEIGHTS.format("*")):
        one.chmod(0o644)  # onnx writes it for its owner alone


def _trace(model: CrossEncoder, encoder: Encoder, path: Path) -> None:
    """Two pairs of different lengths, so that padding and the attention mask are traced too."""
    sample = encoder.batch(encoder.encode(["two words here", "one"], ["a longer other wording", "another"]))
    axes = {name: {0: "batch", 1: "sequence"} for name in INPUTS}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.eval(),
            tuple(sample[name] for name in INPUTS),
            str(path),
            input_names=list(INPUTS),
            output_names=["log_odds"],
            dynamic_axes={**axes, "log_odds": {0: "batch"}},
            opset_version=_OPSET,
            dynamo=False,
        )


def _write_tokenizer(encoder: Encoder, out: Path) -> None:
    tokenizer = Tokenizer.from_str(encoder.tokenizer.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.save(str(out / manifests.TOKENIZER), pretty=False)


def finish_manifest(
    out: Path, slope: float, intercept: float, small: float = 0.0, beside: str | None = None
) -> None:
    """Writes the manifest over the files as they lie there."""
    weights = sorted(path.name for path in out.glob(_WEIGHTS.format("*"))) or [manifests.MODEL]
    names = dict.fromkeys((*weights, manifests.MODEL, manifests.TOKENIZER))
    hashes = {name: sha256(out / name) for name in names}
    tokenizer = Tokenizer.from_file(str(out / manifests.TOKENIZER))
    write_manifest(
        out / manifests.MANIFEST,
        manifests.Manifest(
            id=f"verifier-{hashes[weights[0]][:_ID_DIGITS]}",
            max_tokens=MAX_TOKENS,
            unknown_token=tokenizer.token_to_id(_UNKNOWN),
            files=sizes(out, hashes),
            sha256=hashes,
            slope=round(slope, 4),
            intercept=round(intercept, 4),
            small=round(small, 4),
            beside=beside,
        ),
    )
