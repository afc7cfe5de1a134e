"""Sentence-transformers models, exported once to ONNX and from then on run without torch."""

from __future__ import annotations

from llmhost.cache.embedders.load import embedder_id, load_embedder

__all__ = ["embedder_id", "load_embedder"]
