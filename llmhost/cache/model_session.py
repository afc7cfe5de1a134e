"""How an exported model, the embedder's or a verifier's, is opened with onnxruntime."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from llmhost.machine.heavy import onnxruntime

__all__ = ["open_session"]

_ERRORS_ONLY = 3  #: onnxruntime's severity: its warnings are about its own choices


def open_session(model: Path, threads: int, *, optimised: bool = False) -> Any:
    """A session that computes on `threads` threads, on fewer where there are fewer processors, and on one
    where no second may be started, as under a small limit of processes. `optimised`: the file was optimised
    when it was made. Raises whatever onnxruntime raises."""
    options = onnxruntime.SessionOptions()
    if optimised:
        # This level makes float32 of the default model's weights once, when it is loaded, and not at each
        # question.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.intra_op_num_threads = min(threads, os.cpu_count() or 1)
    options.inter_op_num_threads = 1
    # An idle thread sleeps: it has nothing to wait for between two questions.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = _ERRORS_ONLY
    # Its fallback to other providers prints on stdout.
    choices: dict[str, Any] = {"providers": ["CPUExecutionProvider"], "enable_fallback": 0}
    try:
        return onnxruntime.InferenceSession(str(model), options, **choices)
    except RuntimeError:
        if threads == 1:
            raise
        return open_session(model, 1, optimised=optimised)
