"""Nothing goes to the network but what was configured: every command, where there is no network.

In a network namespace of its own, which has no way out but counts who looks for one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from plugins.commands import House

from llmhost.cli.app import COMMANDS as TABLE
from llmhost.cli.app import HELP
from llmhost.cli.frame import App, Globals

WORDINGS = (
    "How tall is the Eiffel Tower?",
    "How tall is the Eiffel Tower?",
    "What is the height of the Eiffel tower?",
)
#: Files of the user's for the commands that read one.
FILES = {
    "pairs.jsonl": '{"a": "How old is Rome?", "b": "What is the age of Rome?", "same": true}\n',
    "conversations.jsonl": '{"turns": ["Who was Marie Curie?", "A physicist."], "last": "When did she die?", '
    '"standalone": "When did Marie Curie die?"}\n',
    "stream.jsonl": '{"question": "How old is Rome?", "class": "age"}\n',
    "questions.txt": "How old is Rome?\n",
    "trace.csv": "time,prompt_tokens,completion_tokens\n0,10,10\n60,10,10\n",
}
#: What is known only while it runs: the command that tells it, and where in its JSON.
TOLD: dict[str, tuple[list[str], list[str | int]]] = {
    "{entry}": (["cache", "ls"], ["entries", 0, "entry"]),
    "{worker}": (["status"], ["workers", 0, "id"]),
    "{key}": (["keys", "ls"], ["keys", 0, "id"]),
}
COMMANDS = [
    ["--version"],
    ["init"],
    ["doctor"],
    ["config", "show"],
    ["config", "validate"],
    ["config", "schema"],
    ["offers"],
    ["up"],
    *(["ask", wording] for wording in WORDINGS),
    ["cache", "audit"],
    ["cache", "ls"],
    ["cache", "export", "kept.jsonl"],
    ["cache", "import", "kept.jsonl"],
    ["cache", "sweep"],
    ["cache", "warm", "questions.txt"],
    ["cache", "get", "{entry}"],
    ["cache", "tune", "show"],
    ["cache", "tune", "reset", "--yes"],
    ["cache", "tune", "judge", "pairs.jsonl"],
    ["cache", "tune", "condense", "conversations.jsonl"],
    ["cache", "tune", "pairs.jsonl"],
    ["cache", "eval", "pairs.jsonl", "--plot", "chart.svg"],
    ["cache", "replay", "stream.jsonl"],
    ["cache", "forget", "{entry}"],
    ["cache", "clear", "--yes"],
    ["stats"],
    ["stats", "--html", "report.html", "--export", "asked.csv"],
    ["cost", "--from-stats"],
    ["bench", "--quick"],
    ["status"],
    ["fleets"],
    ["logs", "{worker}"],
    ["ssh", "{worker}"],
    ["keys", "add", "--tenant", "acme"],
    ["keys", "ls"],
    ["keys", "revoke", "{key}", "--yes"],
    ["scale", "--dry-run"],
    ["scale", "history"],
    ["scale", "cron"],
    ["scale", "simulate", "trace.csv"],
    ["down", "--all"],
]
#: Commands that need what this fleet has not: a market, a shell, a model that can judge; some checks fail.
MAY_FAIL = ("doctor", "offers", "ssh", "cache tune judge", "cache tune condense", "cache tune pairs.jsonl")
#: Commands that are not in the list, and why.
BESIDES = {
    "serve": "`up` starts it, and it runs beside the others",
    "chat": "asks as `ask` does",
    "notify test": "sends to what the configuration names",
    "cache reindex": "reads and writes Redis as `cache sweep` and `cache import` do, and waits half a minute",
}

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
asked = json.load(sys.stdin)

def filled(argument):
    if argument not in asked["told"]:
        return argument
    command, path = asked["told"][argument]
    value = json.loads(run([*asked["llmhost"], *command, "--json"])["out"])
    for step in path:
        value = value[step]
    return value

before = attempts()
with suppress(OSError), socket.socket() as control:
    control.connect(("192.0.2.1", 443))
with suppress(OSError):
    socket.getaddrinfo("telemetry.example.com", 443)
results = [{"attempts": attempts() - before}]
results += [run([*asked["llmhost"], *map(filled, command)]) for command in asked["commands"]]
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


@pytest.mark.slow
def test_no_command_goes_anywhere(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    for name, text in FILES.items():
        Path(name).write_text(text)
    asked = {"llmhost": [sys.executable, "-m", "llmhost"], "commands": COMMANDS, "told": TOLD}
    inside = subprocess.run(
        [*own_network(), sys.executable, "-c", INSIDE],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
    )
    assert inside.returncode == 0, inside.stderr
    control, *results = json.loads(inside.stdout)
    assert control["attempts"] >= 2, "an attempt would not be noticed"
    did: dict[str, Any] = {
        " ".join(command): (result["code"], result["attempts"], result["err"])
        for command, result in zip(COMMANDS, results, strict=True)
    }
    assert {command: found for command, (_, found, _) in did.items() if found} == {}
    failed = {command: (code, err) for command, (code, _, err) in did.items() if code}
    assert {command: why for command, why in failed.items() if not command.startswith(MAY_FAIL)} == {}
    home = Path(os.environ["HOME"])
    assert sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()) == sorted(
        ["llmhost.yaml", "llmhost.schema.json", "chart.svg", "kept.jsonl", "report.html", "asked.csv", *FILES]
    )


def commands_below(command: Any, name: str = "") -> Iterator[str]:
    """The names of all commands, with those of the groups that they are in."""
    if not hasattr(command, "list_commands"):
        yield name
        return
    context = command.make_context("llmhost", [], obj=Globals(), resilient_parsing=True)
    for inner in command.list_commands(context):
        yield from commands_below(command.get_command(context, inner), f"{name} {inner}".strip())


def test_every_command_is_watched() -> None:
    watched = [" ".join(command) for command in COMMANDS]
    names = set(commands_below(App(HELP).with_commands(TABLE)))
    assert {"ask", "cache tune judge"} <= names
    assert {name for name in names if not any(one.startswith(name) for one in watched)} <= BESIDES.keys()
