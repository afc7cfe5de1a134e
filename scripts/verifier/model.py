"""A cross-encoder on the weights of a model for sentences: both wordings in one text, so that each word sees
the other's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Encoding, Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import AutoModel

__all__ = ["INPUTS", "MAX_TOKENS", "CrossEncoder", "Encoder"]

INPUTS = ("input_ids", "attention_mask", "token_type_ids")

#: tokens of both wordings together; longer ones are not judged
MAX_TOKENS = 128

_DROPOUT = 0.1


class CrossEncoder(torch.nn.Module):
    """Log-odds that two wordings ask the same. The head sees the pair's own token, and how far the means of
    both wordings' tokens lie apart, which is what models for sentences were made for."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.body = AutoModel.from_pretrained(str(weights), attn_implementation="eager")
        self._reads_types = hasattr(self.body.embeddings, "token_type_embeddings")
        # Words that the training never met keep their place.
        self.body.embeddings.word_embeddings.weight.requires_grad = False
        width = self.body.config.hidden_size
        self.dense = torch.nn.Linear(3 * width, width)
        self.drop = torch.nn.Dropout(_DROPOUT)
        self.out = torch.nn.Linear(width, 1)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> torch.Tensor:
        types = {"token_type_ids": token_type_ids} if self._reads_types else {}
        states = self.body(input_ids=input_ids, attention_mask=attention_mask, **types).last_hidden_state
        first = _mean(states, (1 - token_type_ids) * attention_mask)
        second = _mean(states, token_type_ids * attention_mask)
        seen = torch.cat([states[:, 0], (first - second).abs(), first * second], dim=1)
        return self.out(self.drop(torch.tanh(self.dense(seen))))[:, 0]


def _mean(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1)


class Encoder:
    """Pairs of wordings to token ids, by the tokenizer that users get."""

    def __init__(self, weights: Path) -> None:
        self.tokenizer = _telling_sides(Tokenizer.from_file(str(weights / "tokenizer.json")))
        self._padding = next(
            number for name in ("[PAD]", "<pad>") if (number := self.tokenizer.token_to_id(name)) is not None
        )

    def encode(self, a: Sequence[str], b: Sequence[str]) -> list[Encoding]:
        """One for each pair."""
        self.tokenizer.enable_truncation(MAX_TOKENS)
        return self.tokenizer.encode_batch(list(zip(a, b, strict=True)))

    def batch(self, encoded: Sequence[Encoding]) -> dict[str, torch.Tensor]:
        """Padded to the longest."""
        width = max(len(one.ids) for one in encoded)

        def padded(rows: list[list[int]], filler: int) -> torch.Tensor:
            return torch.tensor([row + [filler] * (width - len(row)) for row in rows])

        return {
            "input_ids": padded([one.ids for one in encoded], self._padding),
            "attention_mask": padded([[1] * len(one.ids) for one in encoded], 0),
            "token_type_ids": padded([one.type_ids for one in encoded], 0),
        }


def _telling_sides(tokenizer: Tokenizer) -> Tokenizer:
    """The same tokens; the types say which wording each is of, also where the model has no use for them."""
    tokenizer.no_padding()
    begin, end = ("<s>", "</s>") if tokenizer.token_to_id("</s>") is not None else ("[CLS]", "[SEP]")
    if begin == "<s>":
        tokenizer.post_processor = TemplateProcessing(
            single=f"{begin} $A {end}",
            pair=f"{begin}:0 $A:0 {end}:0 {end}:1 $B:1 {end}:1",
            special_tokens=[(name, tokenizer.token_to_id(name)) for name in (begin, end)],
        )
    return tokenizer
