"""The section `scale`, and what the autoscaler gets of it."""

from __future__ import annotations

from collections.abc import Callable
from zoneinfo import ZoneInfo

import pytest

from llmhost.autoscale.models import ScaleSpec
from llmhost.config.hours import Window
from llmhost.config.models import Config
from llmhost.engines.traffic import KEPT
from llmhost.errors import ConfigError
from llmhost.wiring.fleets import scale_spec

Load = Callable[..., Config]
Refused = Callable[..., ConfigError]

RENTED = "fleet: {provider: vast}\nengine: {kind: ollama}\n"


def test_what_is_written_is_what_it_is_told(load: Load) -> None:
    spec = scale_spec(
        load("""
fleet: {max_gpus: 20}
engine: {slots: 3}
scale:
  min_gpus: 2
  timezone: Europe/Zurich
  schedule:
    - {when: "mon-fri 08:00-18:00", min_gpus: 4}
    - {when: "22:00-06:00", min_gpus: 0}
  queue_time: 2s
  max_late_ratio: 0.1
  drain_backlog_within: 30s
  target_utilization_max: 0.9
  target_utilization_min: 0.6
  down_after: 10m
  scale_to_zero_after: 1h
  max_step: 5
  max_failures: 4
  tokens_per_s: 800
  tokens_per_answer: 333
  boot_time: 7m
""")
    )
    assert spec == ScaleSpec(
        min_gpus=2,
        max_gpus=20,
        windows=(
            Window(frozenset(range(5)), 480, 1080, 4),
            Window(frozenset(range(7)), 1320, 360, 0),
        ),
        zone=ZoneInfo("Europe/Zurich"),
        queue_time=2.0,
        max_late_ratio=0.1,
        drain_backlog_within=30.0,
        target_utilization_max=0.9,
        target_utilization_min=0.6,
        down_after=600.0,
        scale_to_zero_after=3600.0,
        max_step=5,
        max_failures=4,
        slots=3,
        tokens_per_s=800.0,
        tokens_per_answer=333.0,
        boot_seconds=420.0,
    )


def test_a_rented_machine_is_thought_to_boot_longer_than_a_process_here(load: Load) -> None:
    assert scale_spec(load("")).boot_seconds == 10
    assert scale_spec(load(RENTED)).boot_seconds == 180
    assert scale_spec(load("scale: {boot_time: 44s}")).boot_seconds == 44


def test_servers_that_run_already_do_not_become_more(load: Load) -> None:
    servers = "workers: [{url: 'http://a:1'}, {url: 'http://b:1'}]"
    spec = scale_spec(load(f"fleet: {{provider: static, max_gpus: 8, {servers}}}\nengine: {{kind: ollama}}"))
    assert spec.max_gpus == 2


def test_the_band_may_have_no_inside_but_not_be_upside_down(load: Load, refused: Refused) -> None:
    assert (
        load("scale: {target_utilization_max: 0.7, target_utilization_min: 0.7}").scale.target_utilization_min
        == 0.7
    )
    error = refused("scale: {target_utilization_max: 0.5}")
    assert "`scale.target_utilization_min` must not be over `scale.target_utilization_max`" in error.message


@pytest.mark.parametrize(
    "section",
    ["min_gpus: 9", 'schedule: [{when: "mon 08:00-09:00", min_gpus: 9}]'],
)
def test_no_more_may_be_wanted_at_least_than_there_may_be(section: str, refused: Refused) -> None:
    error = refused(f"fleet: {{max_gpus: 8}}\nscale: {{{section}}}")
    assert "no `min_gpus` of `scale` may be over `fleet.max_gpus`" in error.message


@pytest.mark.parametrize(
    ("section", "named"),
    [
        ("min_gpus: -1", "scale.min_gpus"),
        ("max_step: 0", "scale.max_step"),
        ("max_failures: 0", "scale.max_failures"),
        ("target_utilization_max: 1.1", "scale.target_utilization_max"),
        ("target_utilization_min: 0", "scale.target_utilization_min"),
        ("target_utilization_max: .nan", "scale.target_utilization_max"),
        ("tokens_per_s: 0", "scale.tokens_per_s"),
        ("tokens_per_s: .inf", "scale.tokens_per_s"),
        ("tokens_per_answer: -4", "scale.tokens_per_answer"),
        ("queue_time: 0", "scale.queue_time"),
        ("down_after: 3h", "scale.down_after"),
        ("scale_to_zero_after: 3h", "scale.scale_to_zero_after"),
        ("boot_time: 3h", "scale.boot_time"),
        ("unresponsive_after: 5s", "scale.unresponsive_after"),
        ("timezone: Europe/Zuerich", "scale.timezone"),
        ('schedule: [{when: "mon 8-9", min_gpus: 1}]', "scale.schedule"),
        ('schedule: [{when: "mon 08:00-08:00", min_gpus: 1}]', "scale.schedule"),
        ('schedule: [{when: "mon 08:00-09:00"}]', "scale.schedule"),
        ("cooldown: 5m", "cooldown"),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(section: str, named: str, refused: Refused) -> None:
    assert named in refused(f"scale: {{{section}}}").message


def test_an_idle_time_may_not_be_longer_than_counts_are_kept(load: Load) -> None:
    config = load("scale: {scale_to_zero_after: 2h, down_after: 2h}")
    assert max(config.scale.scale_to_zero_after, config.scale.down_after) < KEPT
