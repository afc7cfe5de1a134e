"""What a worker is told: the text that fits into vast.ai's field, and the orders beside it."""

from __future__ import annotations

import base64
import gzip
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from doubles.vast.rented import orders

from llmhost.fleet.providers.vast import identity as module
from llmhost.fleet.providers.vast.identity import (
    LONGEST_ONSTART,
    environment,
    make_identity,
    onstart,
    read_environment,
)

#: characters; vast.ai's limit on one value
LONGEST_VALUE = 256

IDENTITY = make_identity(1_700_000_000.0)
SCRIPT = Path(module.__file__).with_name("setup_instance.sh")


def unpacked() -> str:
    _, packed, *_ = onstart().replace("|", " ").split()
    return gzip.decompress(base64.b64decode(packed)).decode()


def test_it_fits() -> None:
    assert len(onstart()) <= LONGEST_ONSTART


def test_it_is_the_same_every_time() -> None:
    assert onstart.__wrapped__() == onstart()


def test_it_holds_no_character_that_a_shell_takes_for_its_own_but_the_pipes() -> None:
    assert set(onstart()) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-| ")


def test_comments_stay_at_home() -> None:
    assert [line for line in unpacked().splitlines() if line.startswith(("#", " ")) or " # " in line] == []


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_what_is_sent_is_a_script_that_the_shell_can_parse(shell: str) -> None:
    subprocess.run([shell, "-n", "-c", onstart()], check=True)
    subprocess.run([shutil.which("bash") or "bash", "-n"], input=unpacked().encode(), check=True)


def test_the_script_lies_with_the_others_too() -> None:
    link = Path(__file__).parents[3] / "scripts" / "setup_instance.sh"
    assert not link.readlink().is_absolute()
    assert link.resolve() == SCRIPT.resolve()


def test_the_environment_says_all_that_the_script_asks_for() -> None:
    asked = set(re.findall(r"LLMHOST_[A-Z]+(?:_[A-Z]+)*", unpacked()))
    own = {"LLMHOST_ROOT", "LLMHOST_FRONT_PORT", "LLMHOST_ENGINE_PORT", "LLMHOST_PAUSE"}
    said = {
        name.rstrip("_0123456789") for name in environment(orders(), IDENTITY) if name.startswith("LLMHOST_")
    }
    assert asked - own == said


def test_orders_become_an_environment() -> None:
    env = environment(
        orders(
            model="qwen2:7b",
            parallel=4,
            keep_alive=0.5,
            orphan_after=21600.0,
            max_body=1000,
            read_timeout=59.1,
            api_url="https://vast.example/",
        ),
        IDENTITY,
    )
    said = {name: value for name, value in env.items() if not name.startswith("LLMHOST_CERT_")}
    del said["LLMHOST_KEY"]
    assert said == {
        "-p 8443:8443": "1",
        "LLMHOST_TOKEN": IDENTITY.token,
        "LLMHOST_MODEL": "qwen2:7b",
        "LLMHOST_PARALLEL": "4",
        "LLMHOST_KEEP_ALIVE": "1",
        "LLMHOST_ORPHAN_AFTER": "21600",
        "LLMHOST_MAX_BODY": "1000",
        "LLMHOST_READ_TIMEOUT": "60",
        "LLMHOST_API_URL": "https://vast.example",
    }


def test_a_model_is_kept_for_ever_where_nothing_else_is_ordered() -> None:
    assert environment(orders(keep_alive=None), IDENTITY)["LLMHOST_KEEP_ALIVE"] == "-1"


def test_every_value_is_short_enough() -> None:
    assert max(map(len, environment(orders(), IDENTITY).values())) <= LONGEST_VALUE


def test_any_machine_that_reads_the_environment_knows_the_worker() -> None:
    facts = read_environment(environment(orders(), IDENTITY))
    assert (facts.model, facts.token, facts.certificate) == ("tiny", IDENTITY.token, IDENTITY.certificate)


def test_the_text_says_nothing_about_the_worker() -> None:
    assert IDENTITY.token not in unpacked()
    assert "tiny" not in unpacked()
