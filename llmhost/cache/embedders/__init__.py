"""Sentence-transformers models, exported once to ONNX and from then on run without torch.

`load` is the way in; it imports nothing heavy before a model is loaded.
"""
