"""Small sentence-transformers models of random weights, and what sentence-transformers makes of them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

TEXTS = ("What is machine learning?", "a", "", "Grüße aus Köln, where it rains " * 3)

_BUILD = """
import json, sys
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Dense, Pooling, Transformer
from transformers import AutoTokenizer, BertConfig, BertModel

minilm, target, texts = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
config = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
                    max_position_embeddings=96, initializer_range=0.5)

def build(name, seed, pooling, *more, **options):
    torch.manual_seed(seed)
    bert = target / f"{name}-bert"
    BertModel(config).save_pretrained(bert)
    AutoTokenizer.from_pretrained(minilm).save_pretrained(bert)
    modules = [Transformer(str(bert), max_seq_length=64), Pooling(32, **pooling), *more]
    model = SentenceTransformer(modules=modules, device="cpu", **options)
    model.save(str(target / name))
    vectors = [model.encode(text, normalize_embeddings=True) for text in texts]
    np.save(target / f"{name}.npy", np.stack(vectors))

build("first-token", 1, {"pooling_mode": "cls"})
build("other-weights", 2, {"pooling_mode": "cls"})
build("prompted", 3, {"pooling_mode": "max"}, Dense(32, 16), prompts={"ask": "question: "},
      default_prompt_name="ask")
build("prompt-left-out", 4, {"pooling_mode": "mean", "include_prompt": False},
      prompts={"ask": "question: "}, default_prompt_name="ask")
"""


@dataclass(frozen=True, slots=True)
class SmallModels:
    """A folder for each model, and what sentence-transformers itself makes of `texts`, a row each."""

    folder: Path
    texts: tuple[str, ...] = TEXTS

    def expected(self, name: str) -> NDArray[np.float32]:
        vectors: NDArray[np.float32] = np.load(self.folder / f"{name}.npy")
        return vectors


def build(folder: Path, tokenizer: Path) -> SmallModels:
    """Makes the models, with the tokenizer of another model, in a process of its own: torch is heavy."""
    command = [sys.executable, "-W", "ignore", "-c", _BUILD, str(tokenizer), str(folder), json.dumps(TEXTS)]
    subprocess.run(command, check=True, capture_output=True)
    return SmallModels(folder)
