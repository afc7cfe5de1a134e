"""Small cross-encoders of random weights, made and asked in a process of its own: torch is heavy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

_BUILD_AND_ASK = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, BertModel

from llmhost.cache.verifiers.load import load_verifier
from llmhost.errors import ModelError

tokenizer, folder = AutoTokenizer.from_pretrained(sys.argv[1]), Path(sys.argv[2])

def build(name, kind, labels):
    torch.manual_seed(1)
    model = kind(BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64,
                            max_position_embeddings=96, initializer_range=0.5, num_labels=labels))
    model.save_pretrained(folder / name)
    tokenizer.save_pretrained(folder / name)
    return model

def refused(name):
    try:
        load_verifier(str(folder / name), on_progress=lambda _: None)
    except ModelError as error:
        return error.message

model = build("one", BertForSequenceClassification, 1).eval()
build("two", BertForSequenceClassification, 2)
build("none", BertModel, 1)

pair = "What is machine learning?", "Explain machine learning"
with torch.no_grad():
    both = [torch.sigmoid(model(**tokenizer(*one, return_tensors="pt")).logits).item()
            for one in (pair, pair[::-1])]

progress = []
print("READY", file=sys.stderr)
verifier = load_verifier(str(folder / "one"), on_progress=progress.append)
with ThreadPoolExecutor(4) as threads:
    asked = list(threads.map(lambda order: verifier.probability(*pair[::order]), [1, -1] * 8))
print(json.dumps({
    "progress": progress,
    "expected": sum(both) / 2,
    "asked": asked,
    "long": verifier.probability("word " * 10_000, "What is AI?"),
    "surrogate": verifier.probability("half \\ud800 a pair", "What is AI?"),
    "nul": verifier.probability("a\\0b", "What is AI?"),
    "two": refused("two"),
    "none": refused("none"),
}))
"""


def build_and_ask(folder: Path, tokenizer: Path) -> tuple[dict[str, Any], str]:
    """What was said, and what the process wrote on stderr from the loading of the verifier on."""
    command = [sys.executable, "-W", "ignore", "-c", _BUILD_AND_ASK, str(tokenizer), str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout), done.stderr.partition("READY\n")[2]
