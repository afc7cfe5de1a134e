"""Questions under a limit of processes and threads that the system itself enforces."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from doubles.openai_server import OpenAIServer
from plugins.commands import Finished, House, HouseMaker, processes_of

#: no user of any system; root itself has no limit
NOBODY = 64_123

#: root's way to become a user for whom the limit counts, and who may read what root has installed
AS_NOBODY = (
    *("setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"),
    *("--inh-caps", "+dac_override", "--ambient-caps", "+dac_override"),
)


async def run(*command: str) -> Finished:
    process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE)
    out, err = await process.communicate()
    return Finished(process.returncode or 0, out.decode(), err.decode())


@pytest.fixture
async def user() -> AsyncIterator[Sequence[str]]:
    """What begins a command line so that it runs as a user with limits, in folders of that user."""
    if shutil.which("prlimit") is None:
        pytest.skip("prlimit is needed: apt install util-linux")
    if os.geteuid() != 0:
        yield ("env",)
        return
    if shutil.which("setpriv") is None or (await run(*AS_NOBODY, "true")).code != 0:
        pytest.skip("root is limited here, or lacks setpriv: no other user can be tried")
    with tempfile.TemporaryDirectory(prefix="llmhost-test-") as name:  # nobody else may enter a test's own
        folder = Path(name)
        os.chown(folder, NOBODY, NOBODY)
        yield (
            *AS_NOBODY,
            "env",
            f"LLMHOST_STATE_DIR={folder / 'state'}",
            f"LLMHOST_CACHE_DIR={folder / 'cache'}",
        )
        for process in processes_of(folder):
            process.kill()
            process.wait()


@pytest.mark.slow
async def test_a_question_is_answered_under_any_limit_of_threads(
    house: House, static: HouseMaker, openai_server: OpenAIServer, user: Sequence[str]
) -> None:
    static(house, openai_server)
    command = (sys.executable, "-m", "llmhost")
    up = await run(*user, *command, "up")
    assert up.code == 0, up.err
    for limit in (1, 6, 7, 8, 9, 10):  # Redis is among them, and each library starts threads of its own
        limited = (*user, "prlimit", f"--nproc={limit}:{limit}", *command)
        done = await run(*limited, "ask", "--json", f"What is a limit of {limit}?")
        assert done.code == 0, (limit, done.err)
        assert done.json["answer"] == "Hello, Wörld!"
        assert done.err.count("warning: ") <= 1
