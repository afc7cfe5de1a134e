from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import llmhost

ROOT = Path(llmhost.__file__).parent

#: Threads import what loads a model, all at once. The import of numpy waits at the moment that does harm: its
#: lock is held, and it is not in `sys.modules` yet. It goes on when every other thread waits for an import or
#: has failed. A finder must not wait: it holds the lock of all imports.
BURST = """
import sys, threading, time
from importlib.machinery import PathFinder, SourceFileLoader

class SlowLoader(SourceFileLoader):
    def create_module(self, spec):
        deadline = time.monotonic() + 60
        while not all(stands_still(thread) for thread in running):
            assert time.monotonic() < deadline
            time.sleep(0.01)

def stands_still(thread):
    frame = sys._current_frames().get(thread.ident)
    waits = frame is not None and frame.f_code.co_name == "acquire"
    return waits or thread is threading.current_thread() or not thread.is_alive()

class SlowNumpy:
    def find_spec(self, name, path=None, target=None):
        if name != "numpy":
            return None
        spec = PathFinder.find_spec(name, path)
        spec.loader = SlowLoader(name, spec.origin)
        return spec

sys.meta_path.insert(0, SlowNumpy())
MODULES = [
    "llmhost.cache.embedders.onnx",
    "llmhost.cache.verifiers.onnx",
    "llmhost.cache.indexes.flat",
    "llmhost.cache.indexes.query_engine",
    "llmhost.cache.indexes.vector_set",
    "llmhost.cache.model_input",
]
threads, failures = 12, []
together = threading.Barrier(threads)

def load(module):
    together.wait()
    try:
        __import__(module)
    except BaseException as error:
        failures.append(f"{module}: {type(error).__name__}: {error}")

running = [threading.Thread(target=load, args=(MODULES[i % len(MODULES)],)) for i in range(threads)]
for thread in running:
    thread.start()
for thread in running:
    thread.join()
sys.exit("\\n".join(failures) or 0)
"""

INFERENCE = """
from pathlib import Path
from llmhost.cache.verifiers.load import load_verifier
load_verifier("builtin", on_progress=print).probability("What is rain?", "Why does it rain?")
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


def test_many_threads_can_import_what_loads_models_at_once() -> None:
    finished = run(BURST)

    assert (finished.returncode, finished.stderr) == (0, "")


def test_running_a_model_writes_nothing_into_the_users_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path.home() / "cache"))

    finished = run(INFERENCE)

    assert (finished.returncode, finished.stderr) == (0, "")
    assert list(Path(os.environ["HOME"]).rglob("*")) == []


@pytest.mark.parametrize("library", ["onnxruntime", "tokenizers"])
def test_a_library_that_imports_or_follows_numpy_is_imported_in_one_place(library: str) -> None:
    importing = {
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if library in imported_packages(node)
    }

    assert importing == {"machine/heavy.py"}


def imported_packages(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name.partition(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return {node.module.partition(".")[0]}
    return set()
