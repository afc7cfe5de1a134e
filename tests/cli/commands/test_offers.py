"""`llmhost offers`: what people see, and what scripts may rely on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doubles.clock import ManualClock
from doubles.fleet_values import ORIGIN
from doubles.memory_provider import MemoryCloud, MemoryProvider

from llmhost.config.models import Config, RedisConfig
from llmhost.fleet.models import FleetSpec, Market, Offer
from llmhost.fleet.registry import Ban, FleetRegistry
from llmhost.store.client import connect

Run = Callable[..., Any]

REJECTED = {"reliability>0.95": 7}

RENTED = (
    "fleet: {name: test, provider: vast, gpus: 2}\n"
    "engine: {kind: ollama, model: tiny}\n"
    "vast: {offers: 'gpu_name=RTX_4090 reliability>0.95 inet_down>=100', model_size: 6}\n"
)


def make_offer(number: int, **changes: Any) -> Offer:
    values: dict[str, Any] = {
        "gpu": "RTX 4090",
        "price_per_hour": 0.3 + number / 100,
        "reliability": 0.99,
        "region": "California, US",
        "machine": f"m{number}",
        "performance": 200.0,
        "download": 812.0,
        "download_price": 0.0029,
        "cuda": 12.4,
        "bandwidth": 1008.0,
        "contract": 2_592_000.0,
    }
    return Offer(str(31_000_000 + number), **{**values, **changes})


class MarketProvider(MemoryProvider):
    """A provider with a market, and the configuration that it was made for."""

    def __init__(self, market: Market) -> None:
        super().__init__(MemoryCloud(ManualClock()))
        self.market = market
        self.config = Config()

    async def offers(self, spec: FleetSpec) -> Market:
        return self.market


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> MarketProvider:
    """What a vast fleet finds for rent: three offers, until a test says otherwise."""
    provider = MarketProvider(Market(tuple(make_offer(n) for n in range(3)), REJECTED))

    def make_provider(config: Config, *_: object) -> MarketProvider:
        provider.config = config
        return provider

    monkeypatch.setattr("llmhost.wiring.fleets.make_provider", make_provider)
    Path("llmhost.yaml").write_text(RENTED)
    return provider


def test_json_has_every_offer_in_full_and_what_was_rejected(cli: Run, shop: MarketProvider) -> None:
    shop.market = Market((make_offer(0), *(make_offer(n, performance=0.0) for n in range(1, 30))), REJECTED)
    found = cli("offers", "--json").json
    best, unknown, *_ = offers = found.pop("offers")
    assert [offer["id"] for offer in offers] == [str(31_000_000 + n) for n in range(30)]
    assert best == {
        "rank": 1,
        "why": "$0.83 per million tokens: 1 d cost $7.20 of rent and $0.023 of traffic, boot 1 min 19 s, "
        "101 tok/s (by 1,008 GB/s)",
        "usd_per_million_tokens": pytest.approx(7.2232 / (86_340.89 * 100.8) * 1e6, rel=1e-4),
        "tokens_per_s": pytest.approx(100.8),
        "measured": False,
        "rent_usd": pytest.approx(7.2),
        "traffic_usd": pytest.approx(0.0232),
        "boot_usd": pytest.approx(0.3 * 48_000 / 812 / 3600),
        "boot_s": pytest.approx(64_000 / 812),
        "memory_gb_per_s": 1008.0,
        "contract_s": 2_592_000.0,
        "id": "31000000",
        "gpu": "RTX 4090",
        "price_per_hour": 0.3,
        "price_per_100": 0.15,
        "reliability": 0.99,
        "region": "California, US",
        "machine": "m0",
        "performance": 200.0,
        "bid": None,
        "download_mbps": 812.0,
        "download_usd_per_gb": 0.0029,
        "cuda": 12.4,
        "verified": True,
        "other_offers": 0,
    }
    assert (unknown["performance"], unknown["price_per_100"]) == (None, None)
    assert found == {
        "provider": "vast",
        "fitting": 30,
        "rejected": REJECTED,
        "gpus": 2,
        "hourly_cost_usd": pytest.approx(0.61),
        "expected_stay_s": 86_400.0,
        "banned": [],
    }


def test_unknown_speed_and_traffic_are_null(cli: Run, shop: MarketProvider) -> None:
    shop.market = Market((make_offer(1, bandwidth=0.0, download_price=None),))
    (offer,) = cli("offers", "--json").json["offers"]
    assert (offer["usd_per_million_tokens"], offer["tokens_per_s"]) == (None, None)
    assert (offer["memory_gb_per_s"], offer["download_usd_per_gb"]) == (None, None)
    assert "of traffic, whose price is not known, boot 1 min 19 s; its speed is not known" in offer["why"]


def test_a_machine_is_shown_once_by_its_best_offer(cli: Run, shop: MarketProvider) -> None:
    shop.market = Market((make_offer(3, machine="m1"), *(make_offer(n) for n in (1, 2)), make_offer(1)))
    found = cli("offers", "--json").json
    shown = [(offer["id"], offer["machine"], offer["other_offers"]) for offer in found["offers"]]
    assert shown == [("31000001", "m1", 1), ("31000002", "m2", 0)]
    assert found["fitting"] == 4
    assert "; 1 more offer of its machine" in " ".join(cli("offers").stdout.split())


def test_offers_are_ranked_by_the_cost_of_a_token(cli: Run, shop: MarketProvider) -> None:
    shop.market = Market((make_offer(3), make_offer(1, bandwidth=100.0), make_offer(2)))
    offers = cli("offers", "--json").json["offers"]
    ranks = [(offer["rank"], offer["id"]) for offer in offers]
    assert ranks == [(1, "31000002"), (2, "31000003"), (3, "31000001")]


def test_the_best_rank_is_explained_in_words_and_with_v_each(cli: Run, shop: MarketProvider) -> None:
    assert "2: $" not in " ".join(cli("offers").stdout.split())
    shown = " ".join(cli("offers", "-v").stdout.split())
    assert (
        "1: $0.83 per million tokens: 1 d cost $7.20 of rent and $0.023 of traffic, boot 1 min 19 s" in shown
    )
    assert "3: $0.89 per million tokens" in shown


def test_the_first_line_says_which_fleet_the_offers_are_for(cli: Run) -> None:
    assert cli("offers").stderr.startswith("fleet ")


def test_the_second_line_of_a_reason_does_not_begin_where_ranks_stand(
    cli: Run, shop: MarketProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = cli("offers", "-v").stdout.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("1: "))
    assert lines[first + 1].startswith("   ")


def test_machines_that_failed_are_shown_and_not_offered_until_the_ban_is_lifted(
    cli: Run, shop: MarketProvider, redis_server: Any
) -> None:
    shop.market = Market(tuple(make_offer(n) for n in range(3)), REJECTED)
    now = time.time()
    Path("llmhost.yaml").write_text(f"{RENTED}redis: {{url: 'unix://{redis_server.socket}'}}\n")

    async def ban() -> None:
        client = connect(RedisConfig(), socket=redis_server.socket)
        registry = FleetRegistry(client, "test", ORIGIN)
        await registry.ban("m0", Ban("its container has ended", now))
        await registry.ban("m1", Ban("it failed long ago", now - 1e6))
        await client.aclose()

    asyncio.run(ban())
    found = cli("offers", "--json").json
    assert [offer["machine"] for offer in found["offers"]] == ["m1", "m2"]
    assert found["rejected"] == {**REJECTED, "a machine that failed": 1}
    (banned,) = found["banned"]
    assert (banned["machine"], banned["reason"]) == ("m0", "its container has ended")
    assert banned["until"] == pytest.approx(now + 86_400)
    assert "its container has ended" in cli("offers").stdout
    lifted = cli("offers", "--unban", "m0", "--json").json
    assert (len(lifted["offers"]), lifted["banned"]) == (3, [])
    assert len(cli("offers", "--json").json["offers"]) == 3


def test_too_few_offers_for_the_fleet_are_reported(cli: Run, shop: MarketProvider) -> None:
    assert cli("offers", "--json", "--gpus", "4").json["hourly_cost_usd"] is None
    assert "too few for 5 workers" in cli("offers", "--gpus", "5").stdout


def test_each_offer_has_a_row_with_all_its_costs(cli: Run, shop: MarketProvider) -> None:
    lines = cli("offers").stdout.splitlines()
    assert lines[0].split() == ["offer", "gpu", "$/h", "$/Mtok", "rel.", "region", "Mb/s", "$/GB", "CUDA"]
    assert " ".join(lines[2].split()) == "1 31000000 RTX 4090 0.300 0.83 0.990 California, US 812 0.0029 12.4"


def test_the_number_of_offers_and_the_cost_of_the_best_are_shown(cli: Run, shop: MarketProvider) -> None:
    shop.market = Market(tuple(make_offer(n) for n in range(30)), REJECTED)
    shown = cli("offers", "--disk", "80").stdout
    assert "30 of 37 offers fit; the best 10 are shown." in shown
    assert "The best 2 cost $0.61/h, $14.64 a day." in shown
    assert "31000009" in shown
    assert "31000010" not in shown
    assert "$/h includes 80 GB of disk; traffic costs $/GB extra." in shown
    assert "$/Mtok is the estimated cost of a million tokens, with traffic and boot" in shown


def test_the_filter_that_rejected_the_most_is_shown_first(cli: Run, shop: MarketProvider) -> None:
    shop.market = Market((make_offer(1),), {"reliability>0.95": 7, "gpu_name=RTX_4090": 1_413})
    lines = [line.split() for line in cli("offers").stdout.splitlines()]
    assert lines[-2:] == [["1,413", "gpu_name=RTX_4090"], ["7", "reliability>0.95"]]


@pytest.mark.parametrize(
    ("rejected", "advice"),
    [
        (
            {"inet_down>=100": 4, "gpu_name=RTX_4090": 1_413, "reliability>0.95": 57},
            "relax `inet_down>=100` first: the 4 that it rejected pass all filters before it",
        ),
        (
            {"inet_down>=100": 40, "dph_total<=0.2": 1},
            "relax `dph_total<=0.2` first: the offer that it rejected passes all filters before it",
        ),
        ({}, "no offers at the moment; try again in a few minutes"),
    ],
    ids=["the last term of the filter", "the price, which is checked last", "an empty market"],
)
def test_no_fitting_offer_is_no_failure_and_the_filter_to_relax_is_named(
    cli: Run, shop: MarketProvider, rejected: dict[str, int], advice: str
) -> None:
    shop.market = Market((), rejected)
    ran = cli("offers")
    assert (ran.code, ran.stderr.split("\n", 1)[1]) == (0, f"{advice}\n")
    assert ran.stdout.startswith(f"0 of {sum(rejected.values())} offers fit.")


def test_bids_are_distinguished_from_prices(cli: Run, shop: MarketProvider) -> None:
    shop.market = Market((make_offer(1, bid=0.29),))
    shown = cli("offers", "--interruptible", "--max-price", "0.4").stdout
    assert shown.splitlines()[0].split()[-1] == "bid"
    assert shown.splitlines()[2].split()[-1] == "0.290"
    assert "lost when someone bids more" in shown


def test_options_override_the_configuration(cli: Run, shop: MarketProvider) -> None:
    terms = ("gpu_name=RTX_3090", "reliability>0.9")
    cli("offers", *terms, "--disk", "30", "--max-price", "0.5", "--interruptible")
    vast = shop.config.vast
    assert vast.offers == "gpu_name=RTX_3090 reliability>0.9"
    assert (vast.disk, vast.max_price, vast.interruptible) == (30.0, 0.5, True)
    Path("llmhost.yaml").write_text(RENTED.replace("vast: {", "vast: {interruptible: true, max_bid: 0.3, "))
    cli("offers", "--on-demand")
    assert not shop.config.vast.interruptible


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["gpu_nam=X"], "offers have no field `gpu_nam`; did you mean `gpu_name`?"),
        (["--disk", "2"], "`vast.disk` cannot be `2.0`"),
        (["--gpus", "99"], "`fleet.gpus` must not be over `fleet.max_gpus`"),
        (["--interruptible"], "`vast.interruptible` needs a limit"),
        (["--limit", "0"], "--limit"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(cli: Run, shop: MarketProvider, args: list[str], said: str) -> None:
    ran = cli("offers", *args)
    assert (ran.code, ran.stdout) == (2, "")
    assert said in ran.stderr


@pytest.mark.parametrize("width", [80, 200])
def test_no_line_is_wider_than_the_terminal_and_no_text_controls_it(
    cli: Run, shop: MarketProvider, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    offer = make_offer(1, gpu="8x H100\x1b[31m SXM", region="\x1b]0;x\x07North Carolina, US", bid=11.5)
    shop.market = Market((offer,), {"\x1b[2J" + "x" * 90: 1})
    shown = cli("offers").stdout
    assert (max(map(len, shown.splitlines())) <= width, "\x1b" in shown) == (True, False)


def test_where_nothing_is_rented_the_free_places_are_listed_and_no_filter_is_taken(cli: Run) -> None:
    assert "Places for processes on this machine; nothing is rented." in cli("offers").stdout
    assert len(cli("offers", "--json").json["offers"]) == 8
    refused = cli("offers", "gpu_name=RTX_4090")
    assert (refused.code, "this fleet's provider is local" in refused.stderr) == (2, True)
    Path("llmhost.yaml").write_text(
        "fleet: {provider: static, workers: [{url: 'http://127.0.0.1:1'}]}\nengine: {kind: ollama, model: x}"
    )
    shown = cli("offers").stdout
    assert ("http://127.0.0.1:1" in shown, "Servers in `fleet.workers`" in shown) == (True, True)
