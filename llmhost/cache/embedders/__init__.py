"""Sentence-transformers models as ONNX, run without torch: one comes with llmhost, others are exported once.

`load` is the entry point; it imports nothing heavy before a model is loaded.
"""
