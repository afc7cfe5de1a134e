"""Containers as far as a worker can tell: the real onstart text in a folder and a process group of its own.

nginx, curl and every other program are this machine's; `bin/` holds doubles of those that would reach out
of the test: ollama, nvidia-smi, apt-get, zstd, and the one page that curl may not ask for.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict, Unpack

import psutil
from doubles.vast.no_containers import declared_ports
from doubles.waiting import until

from llmhost.fleet.providers.vast.identity import (
    certificate_to_environment,
    key_to_environment,
    make_identity,
)

DOUBLES = Path(__file__).with_name("bin")

#: Debian's path, which has the folder where nginx lies.
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: seconds between two looks of the script; on a real worker 5
PAUSE = 0.1


class Engine(TypedDict, total=False):
    """What the double of Ollama is told to do.

    `fault` and `after` are those of `ChatServer.fail`; `status` is what it refuses questions with. Of the
    model's 1000 bytes, `pull_pause` is seconds for each tenth, `pull_breaks` after how many each pull breaks
    off, and `on_gpu` the share that fits into the GPU.
    """

    wedged: bool
    fault: str
    after: int
    status: int
    pull_pause: float
    pull_breaks: tuple[int, ...]
    pull_error: str
    load_error: str
    only_embeds: bool
    on_gpu: float


class Container:
    """`ports` are those of this machine by the container's own. What lies in `root` outlives a stop."""

    def __init__(self, root: Path, log: Path, script: str, environ: Mapping[str, str]) -> None:
        self.root = root
        self.home = root / "root"
        self.files = root / "dev" / "shm" / "llmhost"
        self.log = log
        self.ports: Mapping[int, int] = {}
        self.environ = dict(environ)
        self._script = script
        self._process: asyncio.subprocess.Process | None = None

    @property
    def engine_port(self) -> int:
        return int(self.environ["LLMHOST_ENGINE_PORT"])

    @property
    def group(self) -> int | None:
        """The id of the process group of this boot."""
        return None if self._process is None else self._process.pid

    async def boot(self, shell: str = "bash") -> None:
        """Runs the onstart text, as vast.ai does at every boot."""
        self._process = await self.run_onstart(shell, process_group=0)

    async def run_onstart(self, shell: str, process_group: int | None = None) -> asyncio.subprocess.Process:
        """Runs the onstart text with this shell; 0 is a new process group."""
        script = self.home / "onstart.sh"
        script.write_text(self._script)
        with self.log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *(shell, str(script)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.home,
                env=self.environ,
                process_group=process_group,
            )

    async def stop(self) -> None:
        """Kills all that runs in it, and returns once that is gone."""
        if self._process is not None:
            kill_group(self._process.pid)
            await self._process.wait()
            await until(lambda: not self.processes())
            self._process = None

    async def reboot(self) -> None:
        await self.stop()
        await self.boot()

    def engine(self, **orders: Unpack[Engine]) -> None:
        """What Ollama does from now on."""
        draft = self.home / "engine.json.new"
        draft.write_text(json.dumps(orders))
        draft.rename(self.home / "engine.json")

    def printed(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def processes(self, *words: str) -> list[psutil.Process]:
        """What runs in it, or only that which has all these words in its command line."""
        return [
            process
            for process in psutil.process_iter()
            if _is_in_group(process, self.group) and all(word in command_line(process) for word in words)
        ]


class RealContainers:
    """`env` is added to every container's environment; `engine` is what each Ollama does from the start.

    Programs that are `missing` are found on no path until they are installed, `absent` ones never are. With
    `impostor`, the next boots show another certificate than the one that was ordered. Logs lie in `folder`.
    The roots of the containers do not, since nginx's unprivileged processes cannot look into a test's own
    folder; they are removed with this object.
    """

    def __init__(
        self,
        folder: Path,
        *,
        missing: Sequence[str] = (),
        absent: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        **engine: Unpack[Engine],
    ) -> None:
        self.missing = (*missing, *absent)
        self._absent = absent
        self.env = dict(env or {})
        self.engine = engine
        self.impostor = False
        self.all: dict[int, Container] = {}
        self._folder = folder
        self._scratch = Path(tempfile.mkdtemp(prefix="llmhost-test-"))
        self._scratch.chmod(0o711)
        weakref.finalize(self, _clear, self._scratch, self.all)

    async def start(
        self, instance_id: int, onstart: str, env: Mapping[str, str], api_url: str, api_key: str
    ) -> Container:
        """Boots the container of this instance, which keeps its files from boot to boot."""
        front, engine, gateway = _free_ports(3)
        root = self._scratch / str(instance_id)
        environ = {name: value for name, value in env.items() if not name.startswith("-")} | {
            "CONTAINER_ID": str(instance_id),
            "CONTAINER_API_KEY": api_key,
            "VAST_TCP_PORT_8443": str(front),
            "HOME": str(root / "root"),
            "PATH": self._path(root / "root"),
            # Where the test's vast.ai is, whatever was ordered: a test destroys nothing real.
            "LLMHOST_API_URL": api_url,
            "LLMHOST_ROOT": str(root),
            "LLMHOST_FRONT_PORT": str(front),
            "LLMHOST_ENGINE_PORT": str(engine),
            "LLMHOST_GATE_PORT": str(gateway),
            "LLMHOST_PAUSE": str(PAUSE),
        }
        if self.impostor:
            environ |= _another_certificate()
        container = Container(root, self._folder / f"{instance_id}.log", onstart, environ | self.env)
        container.ports = dict.fromkeys(declared_ports(env), front)
        if instance_id not in self.all:
            self._furnish(container)
        self.all[instance_id] = container
        await container.boot()
        return container

    def _path(self, home: Path) -> str:
        """The doubles, and then what this machine has, less what is missing."""
        rest = f"{os.environ['PATH']}:{SYSTEM_PATH}"
        return f"{home / 'bin'}:{home / 'tools' if self.missing else rest}"

    def _furnish(self, container: Container) -> None:
        """Lays out the programs: `bin` has what is installed, `store` what can be, `real` what is real."""
        home = container.home
        for name in ("bin", "store", "real"):
            (home / name).mkdir(parents=True)
        container.root.chmod(0o711)
        (container.root / "var" / "lib").mkdir(parents=True)
        programs = {path.name: path for path in DOUBLES.iterdir()}
        for name in ("nginx", "curl"):
            (home / "real" / name).symlink_to(_program(name))
        _check_nginx(home / "real" / "nginx")
        programs |= {name: home / "real" / name for name in self.missing if name not in programs}
        for name, path in programs.items():
            (home / ("store" if name in self.missing else "bin") / name).symlink_to(path)
        for name in self._absent:
            (home / "store" / name).unlink()
        python = home / "bin" / "python3"
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)
        if self.missing:
            _copy_path(home / "tools", without=self.missing)
        container.engine(**self.engine)


def kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ['PATH']}:{SYSTEM_PATH}")
    assert found is not None, f"{name} is needed for this test: apt install {name}"
    return found


def _check_nginx(program: Path) -> None:
    built = subprocess.run([program, "-V"], capture_output=True, text=True, check=True).stderr
    assert "secure_link" in built, "this nginx cannot check a token: apt install nginx-extras"


def _copy_path(folder: Path, without: Sequence[str]) -> None:
    """Makes a folder of links to all that this machine's path has."""
    folder.mkdir()
    for place in map(Path, f"{os.environ['PATH']}:{SYSTEM_PATH}".split(":")):
        for program in place.iterdir() if place.is_dir() else ():
            link = folder / program.name
            if program.name not in without and not link.is_symlink():
                link.symlink_to(program)


def _another_certificate() -> dict[str, str]:
    other = make_identity(time.time())
    return {"LLMHOST_KEY": key_to_environment(other.key), **certificate_to_environment(other.certificate)}


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [taken.getsockname()[1] for taken in sockets]
    for taken in sockets:
        taken.close()
    return ports


def _is_in_group(process: psutil.Process, group: int | None) -> bool:
    try:
        return os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False


def command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _clear(scratch: Path, containers: Mapping[int, Container]) -> None:
    """What a test that failed has left behind."""
    for container in containers.values():
        if container.group is not None:
            kill_group(container.group)
    shutil.rmtree(scratch, ignore_errors=True)
