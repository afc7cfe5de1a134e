"""Nothing goes to the network but what was configured: a local fleet's whole life where there is no network.

In a network namespace of its own, which has no way out but counts who looks for one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from plugins.commands import House

WORDINGS = (
    "How tall is the Eiffel Tower?",
    "How tall is the Eiffel Tower?",
    "What is the height of the Eiffel tower?",
)
COMMANDS = [
    ["--version"],
    ["init"],
    ["doctor"],
    ["up"],
    *(["ask", wording] for wording in WORDINGS),
    ["cache", "audit"],
    ["cache", "ls"],
    ["stats"],
    ["status"],
    ["scale", "--dry-run"],
    ["down", "--all"],
]

#: Reads commands from stdin; writes what each did, first of all an attempt of its own, to stdout.
INSIDE = '''
import fcntl, json, socket, struct, subprocess, sys
from contextlib import suppress
from pathlib import Path

UP = 0x1 | 0x40  # IFF_UP, IFF_RUNNING

def attempts():
    """Packets that found no way out, of either version of IP, and all of UDP: questions to a name server."""
    found, names = 0, []
    for line in Path("/proc/net/snmp").read_text().splitlines():
        kind, *values = line.split()
        if values[0].isalpha():
            names = values
        else:
            fields = dict(zip(names, map(int, values)))
            found += fields.get("OutNoRoutes", 0) + (fields["OutDatagrams"] if kind == "Udp:" else 0)
    for line in Path("/proc/net/snmp6").read_text().splitlines() if Path("/proc/net/snmp6").exists() else []:
        name, value = line.split()
        found += int(value) if name in ("Ip6OutNoRoutes", "Udp6OutDatagrams") else 0
    return found

def run(command):
    before = attempts()
    done = subprocess.run(command, capture_output=True, text=True)
    return {"code": done.returncode, "attempts": attempts() - before, "out": done.stdout, "err": done.stderr}

with socket.socket() as any_socket:
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh22x", b"lo", UP))  # SIOCSIFFLAGS
before = attempts()
with suppress(OSError), socket.socket() as control:
    control.connect(("192.0.2.1", 443))
with suppress(OSError):
    socket.getaddrinfo("telemetry.example.com", 443)
results = [{"attempts": attempts() - before}]
results += [run(command) for command in json.load(sys.stdin)]
json.dump(results, sys.stdout)
'''


def own_network() -> list[str]:
    """The command that makes a network namespace. Skips where this system does not permit one."""
    unshare = shutil.which("unshare")
    for options in (["-n"], ["-rn"]):
        if (
            unshare
            and subprocess.run([unshare, *options, "true"], capture_output=True, check=False).returncode == 0
        ):
            return [unshare, *options]
    pytest.skip("NOT CHECKED that nothing goes to the network: this system permits no network namespace")


def test_a_local_fleet_s_whole_life_goes_nowhere(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    commands = [[sys.executable, "-m", "llmhost", *command] for command in COMMANDS]
    inside = subprocess.run(
        [*own_network(), sys.executable, "-c", INSIDE],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        check=True,
    )
    control, *results = json.loads(inside.stdout)
    assert control["attempts"] >= 2, "an attempt would not be noticed"
    did: dict[str, Any] = {
        " ".join(command): (result["code"], result["attempts"], result["err"])
        for command, result in zip(COMMANDS, results, strict=True)
    }
    assert {command: found for command, (_, found, _) in did.items() if found} == {}
    assert {
        command: (code, err) for command, (code, _, err) in did.items() if code and command != "doctor"
    } == {}
    home = Path(os.environ["HOME"])
    assert sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()) == [
        "llmhost.yaml"
    ]
