"""The files of configs/deploy, as far as they can be checked without what they are for."""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "configs" / "deploy"
FILES = sorted(path for path in FOLDER.rglob("*") if path.is_file())
UNITS = [path for path in FILES if path.suffix == ".service"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_the_page_shows_each_file_as_it_is(path: Path) -> None:
    assert path.read_text() in (ROOT / "docs" / "deploy.md").read_text()


@pytest.mark.parametrize("path", UNITS, ids=lambda path: str(path.relative_to(FOLDER)))
def test_a_unit_reloads_by_the_signal_that_the_gateway_knows_and_waits_for_its_streams(path: Path) -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(path)
    service = unit["Service"]
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert int(service["TimeoutStopSec"]) > 30
    assert service["ExecStart"].endswith("llmhost.yaml serve")


def test_the_image_is_built_from_what_is_there() -> None:
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", (FOLDER / "Dockerfile").read_text(), re.MULTILINE)
    sources = [name for line in copied for name in line.split()]
    assert sources
    assert all((ROOT / name).exists() for name in sources)


def test_the_containers_listen_on_this_machine_alone() -> None:
    services: Any = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    assert set(services) == {"gateway", "redis"}
    assert all(service["network_mode"] == "host" for service in services.values())
    assert "bind 127.0.0.1" in services["redis"]["command"][2]
    assert (FOLDER / services["gateway"]["build"]["context"]).resolve() == ROOT
    assert (ROOT / services["gateway"]["build"]["dockerfile"]).is_file()


def test_prometheus_reads_a_gateway_under_the_name_that_the_dashboard_knows() -> None:
    (job,) = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    assert job["job_name"] == "llmhost"
    assert f'job="{job["job_name"]}"' in (ROOT / "configs" / "grafana.json").read_text().replace("\\", "")
