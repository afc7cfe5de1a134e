"""The libraries that models run on, imported here and nowhere else, in the one order that is safe.

Two threads that load a model at the same moment must not import them side by side: onnxruntime's C part
imports numpy from the middle, finds it half imported by the other thread, and the command ends with an
ImportError (numpy#21223, cpython#91238). Whichever thread imports this module first does all the work, and
the others wait for the module's import lock. numpy comes first, so that onnxruntime finds all of it.

A module that needs numpy alone may import it directly; onnxruntime and tokenizers come from here.
"""

import os

# Without this, onnxruntime keeps a device id and a queue of events in the user's cache folder, and looks up
# the server that collects them (onnxruntime#27379). It is read when the library is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime
import tokenizers

__all__ = ["np", "onnxruntime", "tokenizers"]
