"""The files made from the models."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from llmhost.cli.app import COMMANDS
from llmhost.config.cost import Baseline
from llmhost.config.fleet import StaticWorker
from llmhost.config.schema import fields

REPOSITORY = Path(__file__).parents[2]
GENERATED: dict[str, str] = runpy.run_path(str(REPOSITORY / "scripts/make_docs.py"))["generated"]()
REFERENCE = GENERATED["docs/configuration.md"]
GROFF = shutil.which("groff")
#: of the lists
ENTRIES = [f"entry.{key}" for entry in (StaticWorker, Baseline) for key in entry.model_fields]


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_file_is_up_to_date(name: str) -> None:
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    assert text == GENERATED[name], "run scripts/make_docs.py"


def test_every_command_has_a_section_with_its_options() -> None:
    sections = re.split(r"^##+ ", GENERATED["docs/cli.md"], flags=re.MULTILINE)
    titles = {section.partition("\n")[0]: section for section in sections}
    assert [name for name in COMMANDS if f"llmhost {name}" not in titles] == []
    assert "| `--tenant TENANT` | Whose key it is" in titles["llmhost keys add"]
    assert "llmhost up --gpus 3 --dry-run" in titles["llmhost up"]


def test_every_command_that_prints_json_has_its_fields_on_a_page() -> None:
    names = re.findall(r"^##+ llmhost (.+)$", GENERATED["docs/cli.md"], re.MULTILINE)
    known = re.findall(r"^## llmhost (.+)$", GENERATED["docs/json.md"], re.MULTILINE)
    groups = {name.rpartition(" ")[0] for name in names} - {*known}
    assert {*names} - {*known} - groups == {"serve", "config schema"}


def test_the_manual_page_has_every_command_and_option_that_the_reference_has() -> None:
    page = GENERATED["docs/llmhost.1"].replace("\\-", "-")
    names = re.findall(r"^##+ (llmhost .+)$", GENERATED["docs/cli.md"], re.MULTILINE)
    options = re.findall(r"^\| `(?:-\w, )?(--[a-z-]+)", GENERATED["docs/cli.md"], re.MULTILINE)
    assert [name for name in names if f".SS {name}\n" not in page] == []
    assert [option for option in options if option not in page] == []


@pytest.mark.skipif(GROFF is None, reason="groff is not installed")
def test_the_manual_page_is_shown_without_a_warning() -> None:
    page = REPOSITORY / "docs/llmhost.1"
    shown = subprocess.run(
        [GROFF, "-man", "-Tutf8", "-ww", "-P-cbou", page], capture_output=True, text=True, check=True
    )
    assert shown.stderr == ""
    assert 'llmhost ask "What is artificial intelligence?"' in shown.stdout
    assert "--config PATH" in shown.stdout


def test_the_wheel_puts_the_manual_page_where_man_looks_for_it(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", tmp_path],
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (
            name for name in archive.namelist() if name.endswith(".data/data/share/man/man1/llmhost.1")
        )
        assert archive.read(name).decode() == GENERATED["docs/llmhost.1"]


def test_every_key_has_a_row_in_the_reference() -> None:
    heading, found = "", []
    for line in REFERENCE.splitlines():
        if match := re.match(r"## `([a-z_.]+)`|\| `([a-z_]+)` \|", line):
            heading = match[1] or heading
            found += [f"{heading}.{match[2]}"] if match[2] else []
        elif line.startswith("## "):
            heading = "entry"
    assert sorted(found) == sorted([*(key for key, _ in fields()), *ENTRIES])


@pytest.mark.parametrize(
    "row",
    [
        "| `response_ttl` | duration, `1ms` to `3650d` | `24h` | How long an answer is served. |",
        "| `orphan_after` | duration, `1m` to `3650d` | `6h` | A rented worker destroys itself",
        "| `keep_alive` | duration, `1ms` to `3650d` | none | `vast` only: how long Ollama keeps",
        "| `port` | whole number, 1 to 65535 | `6379` | Port. |",
        "| `hit_latency` | duration, `1ms` to `3650d` | `100ms` | Maximum latency of 95 % of the hits. |",
        "| `token` | secret text | none | Bearer token, if the server requires one. |",
    ],
)
def test_a_row_shows_type_range_default_and_meaning(row: str) -> None:
    assert any(line.startswith(row) for line in REFERENCE.splitlines())


def test_no_value_breaks_the_tables_of_the_reference() -> None:
    for line in REFERENCE.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 5
