"""A worker process that is up in a moment: it serves nothing, and behaves as the model's name says.

It speaks the same files as `llmhost.engines.llama_cpp`, so what is tested with it is the provider.
"""

from __future__ import annotations

import json
import signal
import socket
import sys
from pathlib import Path


def main(folder: Path) -> None:
    spec = json.loads((folder / "spec.json").read_text())
    behaviour = spec["alias"]
    print(f"worker of {behaviour} starts", flush=True)
    if behaviour == "gives-up":
        write(folder / "failure.json", {"message": "the model is not to its taste", "hint": "feed another"})
        raise SystemExit(1)
    if behaviour == "crashes":
        raise SystemExit(7)
    if behaviour == "ignores-sigterm":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", spec["port"]))
        server.listen()
        if behaviour != "never-listens":
            write(folder / "address.json", {"url": f"http://127.0.0.1:{server.getsockname()[1]}"})
        while True:
            signal.pause()


def write(path: Path, value: dict[str, str]) -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(value))
    draft.rename(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
