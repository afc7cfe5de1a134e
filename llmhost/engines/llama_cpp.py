"""The built-in engine: a process of its own that serves one GGUF file through llama.cpp.

``python -m llmhost.engines.llama_cpp FOLDER`` reads ``spec.json`` there and writes ``address.json``
once it listens, or ``failure.json`` if it never will. A crash writes neither: the provider that started
the process sees that it is gone. It is asked as any other OpenAI-compatible server.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from llmhost.engines.model_file import check_gguf
from llmhost.errors import EngineError, LlmhostError, StateError
from llmhost.machine.files import write_json

__all__ = ["ADDRESS_FILE", "FAILURE_FILE", "SPEC_FILE", "WorkerSpec", "main", "read_spec", "write_spec"]

SPEC_FILE = "spec.json"
ADDRESS_FILE = "address.json"
FAILURE_FILE = "failure.json"

_HOST = "127.0.0.1"

#: llama.cpp's level "errors": from the next one on it tells about requests, and prompts are not for logs
_ERRORS_ONLY = 1


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What one worker serves. `context` is in tokens for each of `parallel` requests; port 0 is any."""

    model_path: str
    alias: str
    context: int
    parallel: int
    threads: int
    port: int
    token: str = field(repr=False)


def write_spec(folder: Path, spec: WorkerSpec) -> None:
    """Writes the worker's specification, readable by its owner alone. Raises StateError."""
    write_json(folder / SPEC_FILE, asdict(spec))


def read_spec(folder: Path) -> WorkerSpec:
    """Raises StateError for a file that is missing or not what `write_spec` writes."""
    path = folder / SPEC_FILE
    try:
        spec = WorkerSpec(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise StateError(f"cannot read the worker's specification {path}") from error
    if not spec.token:  # llama.cpp would serve every client
        raise StateError(f"the worker's specification {path} has no token")
    return spec


def main(folder: Path) -> int:
    """Serves until SIGTERM or SIGINT; 1 if it cannot."""
    try:
        spec = read_spec(folder)
        check_gguf(Path(spec.model_path))
        _log(
            f"loads {spec.model_path}: {spec.parallel} slots of {spec.context} tokens, {spec.threads} threads"
        )
        server = _start(spec)
        write_json(folder / ADDRESS_FILE, {"url": server.listening_address})
        _log(f"serves {spec.alias} at {server.listening_address}")
    except LlmhostError as error:
        _report(folder, error)
        return 1
    _wait_for_signal()
    _log("ends: it was told to")
    os._exit(0)  # tearing llama.cpp down waits for its batch: half a minute in the middle of a long prompt


def _start(spec: WorkerSpec) -> Any:
    xllamacpp = _import_xllamacpp()
    try:
        return xllamacpp.Server(_parameters(xllamacpp.CommonParams(), spec))
    except RuntimeError as error:  # it says no more than that
        raise _start_error(spec) from error


def _import_xllamacpp() -> Any:
    # Read by OpenMP when it is loaded. Threads that spin while they wait for each other come to a crawl
    # when anything else uses a core: 3 tokens a second instead of 27 with two busy programs on two cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _load_openmp()
    try:
        import xllamacpp
    except ModuleNotFoundError as error:
        raise EngineError(
            "the built-in engine is not installed (no xllamacpp)",
            hint="run `pip install 'llmhost[local]'`",
        ) from error
    except ImportError as error:
        raise EngineError(
            f"the built-in engine cannot be loaded: {error}",
            hint="install what is named there; on Debian, libgomp.so.1 is in the package libgomp1",
        ) from error
    return xllamacpp


def _load_openmp() -> None:
    """Lends llama.cpp the OpenMP library that torch carries, where the system has none."""
    with suppress(OSError):
        ctypes.CDLL("libgomp.so.1")
        return
    spec = importlib.util.find_spec("torch")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        with suppress(OSError):
            ctypes.CDLL(str(Path(folder, "lib", "libgomp.so.1")), mode=ctypes.RTLD_GLOBAL)


def _parameters(parameters: Any, spec: WorkerSpec) -> Any:
    parameters.model.path = spec.model_path
    parameters.model_alias = {spec.alias}
    parameters.n_ctx = spec.context * spec.parallel  # llama.cpp divides it among its slots
    parameters.n_parallel = spec.parallel
    parameters.cpuparams.n_threads = spec.threads
    parameters.cpuparams_batch.n_threads = spec.threads
    parameters.hostnames = [_HOST]
    parameters.port = spec.port
    parameters.api_keys = [spec.token]
    parameters.verbosity = _ERRORS_ONLY
    parameters.warmup = False  # the readiness check asks for a token anyway
    parameters.fit_params = False  # the context is what the operator says; fitting loads the model twice
    parameters.ui = False
    parameters.endpoint_slots = False  # it shows prompts
    parameters.cache_ram_mib = 0  # 8 GB by default, for prompts that our own cache answers
    parameters.cache_idle_slots = False
    return parameters


def _start_error(spec: WorkerSpec) -> LlmhostError:
    if spec.port and _is_taken(spec.port):
        return EngineError(
            f"port {spec.port} is taken by another program",
            hint="set `fleet.first_port` to 0, which takes any free one, or to another",
        )
    return EngineError(
        f"llama.cpp cannot serve {spec.model_path} with a context of {spec.context} tokens",
        hint="its log says why; a smaller `engine.context` needs less memory",
    )


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port just left is not taken
        try:
            probe.bind((_HOST, port))
        except OSError:
            return True
    return False


def _wait_for_signal() -> None:
    """Returns on SIGTERM or SIGINT, whichever of llama.cpp's threads the system hands it to."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    os.read(reading, 1)


def _log(line: str) -> None:
    """What the worker does; never what it is asked or answers."""
    with suppress(OSError):  # on a full disk it goes on to serve
        sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")
        sys.stderr.flush()


def _report(folder: Path, error: LlmhostError) -> None:
    _log(error.message)
    with suppress(StateError):  # then the log has to do
        write_json(folder / FAILURE_FILE, {"message": error.message, "hint": error.hint})


if __name__ == "__main__":
    for _number in (signal.SIGTERM, signal.SIGINT):  # while the model loads, nothing needs to be put away
        signal.signal(_number, signal.SIG_DFL)
    sys.exit(main(Path(sys.argv[1])))
