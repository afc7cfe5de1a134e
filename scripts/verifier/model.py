"""A cross-encoder on MiniLM's weights: both wordings in one text, so that each word sees the other's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModel, AutoTokenizer

__all__ = ["INPUTS", "MAX_TOKENS", "CrossEncoder", "Encoder"]

INPUTS = ("input_ids", "attention_mask", "token_type_ids")

#: tokens of both wordings together; longer ones are not judged
MAX_TOKENS = 128

_DROPOUT = 0.1


class CrossEncoder(torch.nn.Module):
    """Log-odds that two wordings ask the same. The head sees the pair's own token, and how far the means of
    both wordings' tokens lie apart, which is what MiniLM was made for."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.body = AutoModel.from_pretrained(str(weights), attn_implementation="eager")
        # Words that the training never met keep their place.
        self.body.embeddings.word_embeddings.weight.requires_grad = False
        width = self.body.config.hidden_size
        self.dense = torch.nn.Linear(3 * width, width)
        self.drop = torch.nn.Dropout(_DROPOUT)
        self.out = torch.nn.Linear(width, 1)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> torch.Tensor:
        states = self.body(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state
        first = _mean(states, (1 - token_type_ids) * attention_mask)
        second = _mean(states, token_type_ids * attention_mask)
        seen = torch.cat([states[:, 0], (first - second).abs(), first * second], dim=1)
        return self.out(self.drop(torch.tanh(self.dense(seen))))[:, 0]


def _mean(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1)


class Encoder:
    """Pairs of wordings to token ids."""

    def __init__(self, weights: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(str(weights))

    def encode(self, a: Sequence[str], b: Sequence[str]) -> list[dict[str, list[int]]]:
        """One for each pair."""
        read = self.tokenizer(list(a), list(b), truncation=True, max_length=MAX_TOKENS)
        return [
            {"input_ids": ids, "token_type_ids": types}
            for ids, types in zip(read["input_ids"], read["token_type_ids"], strict=True)
        ]

    def batch(self, encoded: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        """Padded to the longest."""
        return dict(self.tokenizer.pad(list(encoded), return_tensors="pt"))
