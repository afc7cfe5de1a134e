"""Whose program listens on a port."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from llmhost.machine.sockets import listener_owner

pytestmark = pytest.mark.skipif(
    not Path("/proc/net/tcp").exists(), reason="this system does not tell whose program listens on a port"
)

#: another user's program, where the tests may start one
NOBODY = 65534
LISTENS = """
import os, socket
os.setuid(65534)
with socket.create_server(("127.0.0.1", 0)) as server:
    print(server.getsockname()[1], flush=True)
    input()
"""


@pytest.mark.parametrize(
    ("bound", "asked"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "::1")],  # noqa: S104 - for a moment
)
def test_a_program_of_this_user_is_seen_as_such(bound: str, asked: str) -> None:
    family = socket.AF_INET6 if ":" in bound else socket.AF_INET
    with socket.create_server((bound, 0), family=family) as server:
        port = server.getsockname()[1]
        assert listener_owner(asked, port) == os.getuid()
        assert listener_owner("127.0.0.2" if bound == "127.0.0.1" else "127.0.0.1", port) in {
            None,
            os.getuid(),
        }
    assert listener_owner(asked, port) is None


@pytest.mark.skipif(os.getuid() != 0, reason="only root may start a program of another user")
def test_another_user_s_program_is_seen_as_such() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LISTENS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/"
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        port = int(process.stdout.readline())
        assert listener_owner("127.0.0.1", port) == NOBODY
        process.stdin.write(b"\n")
