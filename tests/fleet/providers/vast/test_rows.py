"""Instances, offers and bills as vast.ai may send them, and as it may not."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.config.fields import UNNAMED_FLEET
from llmhost.config.fleet import VastConfig
from llmhost.errors import ProviderError
from llmhost.fleet.models import SshTarget, Worker, WorkerState
from llmhost.fleet.providers.vast.identity import WorkerCredentials
from llmhost.fleet.providers.vast.market import read_market
from llmhost.fleet.providers.vast.rows import (
    Row,
    label_of,
    may_be_ours,
    new_order,
    number_in,
    read,
    read_account,
    read_charges,
    read_fleet,
    ssh_of,
)
from llmhost.ledger.rentals import Charge

ORDERED = 1_700_000_000
NOW = ORDERED + 3600.0
LABEL = f"llmhost/test/{ORDERED}-0a1b2c3d"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - so Docker says it


def instance(**changes: Any) -> dict[str, Any]:
    """A running instance, with what matters to us of what vast.ai tells."""
    return {
        "id": 312,
        "label": LABEL,
        "actual_status": "running",
        "cur_state": "running",
        "intended_status": "running",
        "next_state": "running",
        "is_bid": False,
        "status_msg": "success, running ollama/ollama_latest/ssh",
        "public_ipaddr": "192.0.2.45\n",
        "ports": {"8443/tcp": [{"HostIp": EVERYWHERE, "HostPort": "33526"}]},
        "ssh_host": "ssh7.vast.ai",
        "ssh_port": 10312,
        "dph_total": 0.42,
        "disk_space": 50.0,
        "storage_cost": 0.15,
        "storage_total_cost": 0.0104,
        "start_date": 1_700_000_005.5,
        "machine_id": 77,
        "gpu_name": "RTX 4090",
        "num_gpus": 1,
        "extra_env": [["LLMHOST_MODEL", "tiny"], ["LLMHOST_TOKEN", "t" * 40], ["-p 8443:8443", "1"]],
    } | changes


def row(values: Any) -> Row:
    return read(Row, values, "an instance")


def read_all(
    *rows: dict[str, Any], kept: Callable[[str], WorkerCredentials | None] = lambda _: None
) -> tuple[Worker, ...]:
    return read_fleet(map(row, rows), "test", kept, now=NOW)


def read_one(**changes: Any) -> Worker:
    (worker,) = read_all(instance(**changes))
    return worker


def test_a_running_instance_is_a_worker_that_can_be_reached() -> None:
    worker = read_one()
    assert (worker.id, worker.state, worker.url) == (
        "vast-312",
        WorkerState.STARTING,
        "https://192.0.2.45:33526",
    )
    assert (worker.model, worker.engine, worker.token) == ("tiny", "ollama", "t" * 40)
    assert (worker.gpu, worker.machine, worker.started) == ("RTX 4090", "77", float(ORDERED))
    assert (worker.price_per_hour, worker.burn) == (0.42, 0.42)


@pytest.mark.parametrize(
    ("label", "order"),
    [
        (None, None),
        ("", None),
        ("my training", None),
        ("llmhost/other/1700000000-0a1b2c3d", None),
        ("llmhost/test", ""),
        ("llmhost/testing/1700000000-0a1b2c3d", None),
        (LABEL, f"{ORDERED}-0a1b2c3d"),
        ("llmhost/test/by hand", "by hand"),
    ],
)
def test_an_instance_is_the_fleets_by_its_label(label: str | None, order: str | None) -> None:
    assert row(instance(label=label)).order("test") == order


def test_instances_of_others_are_no_workers_whatever_they_hold() -> None:
    assert read_all({"id": 1, "label": "mine", "dph_total": "dear"}, {"id": 2}) == ()


def test_an_instance_without_our_kind_of_label_started_when_vast_ai_says() -> None:
    assert read_one(label="llmhost/test/by hand").started == 1_700_000_005.5


@pytest.mark.parametrize(
    ("changes", "stage"),
    [
        ({"actual_status": None, "status_msg": None}, "rented"),
        ({"actual_status": "created"}, "rented"),
        ({"actual_status": "loading", "status_msg": "3c67549075b6: Extracting"}, "booting"),
        ({"actual_status": "rebooting"}, "booting"),
        ({"actual_status": "something new"}, "booting"),
        ({"actual_status": "running"}, "installing"),
    ],
)
def test_an_instance_on_its_way_says_how_far_it_is(changes: dict[str, Any], stage: str) -> None:
    worker = read_one(**changes)
    assert (worker.state, worker.stage) == (WorkerState.STARTING, stage)


@pytest.mark.parametrize("status", [None, "created", "loading", "exited", "stopped"])
def test_what_does_not_run_is_billed_its_disk_alone(status: str | None) -> None:
    worker = read_one(actual_status=status)
    assert (worker.price_per_hour, worker.burn) == (0.42, 0.0104)


@pytest.mark.parametrize(("monthly", "burn"), [(0.15, 0.15 * 50 / 720), (None, 0.42)])
def test_a_disk_without_a_price_an_hour_has_one_by_the_month_or_the_machine_counts_in_full(
    monthly: float | None, burn: float
) -> None:
    worker = read_one(actual_status="loading", storage_total_cost=None, storage_cost=monthly)
    assert worker.burn == pytest.approx(burn)


def test_news_of_the_daemon_is_passed_on_in_one_line() -> None:
    assert read_one(actual_status="loading", status_msg="a\n b\x1b[0m ").detail == "a b[0m"


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ("loading", "Error response from daemon: pull failed, retrying"),
        ("loading", "Unpacking libgpg-error0"),
        ("created", "pulling failed, trying again"),
    ],
)
def test_a_word_of_failure_in_a_boots_progress_ends_nothing(status: str, message: str) -> None:
    assert read_one(actual_status=status, status_msg=message).state is WorkerState.STARTING


@pytest.mark.parametrize("status", ["unknown", "offline"])
def test_a_silent_host_says_nothing_about_the_worker_which_can_be_asked(status: str) -> None:
    worker = read_one(actual_status=status)
    assert (worker.state, worker.stage) == (WorkerState.STARTING, status)
    assert worker.url is not None


@pytest.mark.parametrize("status", ["running", "unknown", "frozen"])
def test_what_is_billed_in_full_is_counted_in_full(status: str) -> None:
    assert read_one(actual_status=status).burn == 0.42


def test_a_token_that_the_daemon_repeats_is_masked() -> None:
    worker = read_one(actual_status="created", status_msg=f"docker run -e LLMHOST_TOKEN={'t' * 40} failed")
    assert worker.detail == "docker run -e LLMHOST_TOKEN=*** failed"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"actual_status": "exited"}, "container has ended"),
        ({"actual_status": "stopped"}, "still paid for"),
        ({"actual_status": "frozen"}, "still paid for"),
        ({"actual_status": "created", "status_msg": "x: OCI runtime create failed: y"}, "OCI runtime"),
    ],
)
def test_what_will_never_run_has_failed_and_says_why(changes: dict[str, Any], words: str) -> None:
    worker = read_one(**changes)
    assert (worker.state, worker.url) == (WorkerState.FAILED, None)
    assert words in worker.detail


STOPPED = {"cur_state": "stopped", "intended_status": "stopped", "next_state": "stopped"}


def test_an_instance_that_was_outbid_has_failed() -> None:
    worker = read_one(**STOPPED, is_bid=True, actual_status="exited")
    assert (worker.state, worker.stage) == (WorkerState.FAILED, "outbid")
    assert "outbid" in worker.detail


def test_an_instance_that_was_outbid_a_moment_ago_is_no_longer_paid_in_full() -> None:
    worker = read_one(**STOPPED, is_bid=True, actual_status="running")
    assert (worker.state, worker.burn) == (WorkerState.FAILED, 0.0104)
    assert worker.url == "https://192.0.2.45:33526"  # so that it is asked before it is ended


def test_an_instance_that_somebody_stopped_was_not_outbid() -> None:
    worker = read_one(**STOPPED, actual_status="exited")
    assert (worker.state, worker.stage) == (WorkerState.FAILED, "stopped")


@pytest.mark.parametrize(
    "ports",
    [
        None,
        {},
        {"22/tcp": [{"HostIp": EVERYWHERE, "HostPort": "20000"}]},
        {"8443/tcp": None},
        {"8443/tcp": []},
        {"8443/tcp": [{"HostIp": EVERYWHERE, "HostPort": ""}]},
    ],
)
def test_a_worker_whose_port_is_not_mapped_yet_has_no_address(ports: Any) -> None:
    worker = read_one(ports=ports)
    assert (worker.state, worker.url) == (WorkerState.STARTING, None)


def test_an_address_of_the_new_kind_is_put_in_brackets() -> None:
    assert read_one(public_ipaddr=" 2001:db8::7 ").url == "https://[2001:db8::7]:33526"


@pytest.mark.parametrize("number", [None, "312", True, -1, 10**400])
def test_llmhost_may_be_the_buyer_of_a_row_that_names_no_instance(number: Any) -> None:
    with pytest.raises(ProviderError, match=r"\bid\b"):
        row(instance(id=number))
    assert may_be_ours(instance(id=number))
    assert may_be_ours(instance(id=number, label="somebody else's"))  # by its environment
    assert not may_be_ours(instance(id=number, label="somebody else's", extra_env=[["MODEL", "tiny"]]))


@pytest.mark.parametrize(
    "environment",
    [
        ["LLMHOST_TOKEN=t"],
        "LLMHOST_TOKEN=t",
        '{"A": 1,\n"LLMHOST_TOKEN": "t"}',
        "A=1\nLLMHOST_TOKEN=t",
        [{"name": "LLMHOST_TOKEN", "value": "t"}],
        {"deep": [[{"LLMHOST_CERT_1": None}]]},
    ],
)
def test_an_environment_in_another_shape_still_says_that_llmhost_bought_it(environment: Any) -> None:
    assert row(instance(label="somebody else's", extra_env=environment)).fleet == UNNAMED_FLEET


@pytest.mark.parametrize("environment", [None, [], "LLMHOST_TOKENS=t", {"MY_LLMHOST_TOKEN": "t"}, 7])
def test_an_environment_of_another_program_says_nothing(environment: Any) -> None:
    assert row(instance(label="somebody else's", extra_env=environment)).fleet is None


@pytest.mark.parametrize("label", [7, None, [], {"llmhost/test/": 1}])
def test_a_label_that_is_no_text_is_nobodys(label: Any) -> None:
    assert read_all(instance(label=label)) == ()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"dph_total": None}, "dph_total"),
        ({"dph_total": "0.42"}, "dph_total"),
        ({"dph_total": -0.42}, "dph_total"),
        ({"dph_total": float("nan")}, "dph_total"),
        ({"dph_total": float("inf")}, "dph_total"),
        ({"dph_total": 10**400}, "dph_total"),
        ({"dph_total": True}, "dph_total"),
        ({"actual_status": 1}, "actual_status"),
        ({"status_msg": []}, "status_msg"),
        ({"actual_status": None, "storage_total_cost": "free"}, "storage_total_cost"),
        ({"machine_id": "m"}, "machine_id"),
        ({"gpu_name": 4090}, "gpu_name"),
        ({"extra_env": "LLMHOST_TOKEN=t"}, "extra_env"),
        ({"public_ipaddr": "192.0.2.45/evil"}, "public_ipaddr"),
        ({"public_ipaddr": 5}, "public_ipaddr"),
        ({"ports": {"8443/tcp": "33526"}}, "ports"),
        ({"ports": {"8443/tcp": ["33526"]}}, "ports"),
        ({"ports": {"8443/tcp": [{"HostPort": "70000"}]}}, "ports"),
        ({"ports": {"8443/tcp": [{"HostPort": "²"}]}}, "ports"),
        ({"ports": {"8443/tcp": [{"HostPort": True}]}}, "ports"),
        ({"label": "llmhost/test/by hand", "start_date": None}, "start_date"),
    ],
)
def test_what_vast_ai_does_not_document_is_a_failed_worker_at_the_dearest_price(
    changes: dict[str, Any], named: str
) -> None:
    dear = instance(id=311, label=label_of("test", new_order(ORDERED - 1, 1)), dph_total=0.9)
    _, worker = sorted(read_all(dear, instance(**changes)), key=lambda worker: worker.id)
    assert (worker.id, worker.state, worker.burn) == ("vast-312", WorkerState.FAILED, 0.9)
    assert re.search(rf"\b{named}\b", worker.detail)


def test_a_worker_whose_row_cannot_be_read_can_still_be_asked() -> None:
    worker = read_one(dph_total=None)
    assert (worker.url, worker.token) == ("https://192.0.2.45:33526", "t" * 40)


def test_an_empty_list_of_ports_is_no_port_yet() -> None:
    assert read_one(ports=[]).url is None


@pytest.mark.parametrize("label", ["by hand", "", None, 7, f"llmhost/other/{ORDERED}-0a1b2c3d"])
def test_an_instance_on_record_whose_label_was_changed_is_a_failed_worker(label: Any) -> None:
    rows = [row(instance(label=label)), row(instance(id=313, label=label))]
    order = f"{ORDERED}-0a1b2c3d"
    (worker,) = read_fleet(rows, "test", lambda _: None, now=NOW, numbers={312: order})
    assert (worker.id, worker.state, worker.stage) == ("vast-312", WorkerState.FAILED, "relabelled")
    assert (worker.burn, worker.started) == (0.42, ORDERED)
    assert "its label was changed" in worker.detail


def test_what_is_not_told_is_taken_from_what_this_machine_remembers() -> None:
    facts = WorkerCredentials(model="tiny", token="kept", certificate="PEM")
    (worker,) = read_all(instance(extra_env=[]), kept={f"{ORDERED}-0a1b2c3d": facts}.get)
    assert (worker.model, worker.token, worker.certificate) == ("tiny", "kept", "PEM")


def test_a_worker_of_which_nothing_is_told_or_remembered_is_still_listed() -> None:
    worker = read_one(extra_env=None)
    assert (worker.model, worker.token) == ("", None)


@pytest.mark.parametrize("odd", [["-p 8443:8443", 1], ["-p 8443:8443"], [7, "text"], [], None, "text"])
def test_an_odd_pair_of_the_environment_hides_no_other(odd: Any) -> None:
    worker = read_one(extra_env=[["LLMHOST_MODEL", "tiny"], odd, ["LLMHOST_TOKEN", "t" * 40]])
    assert (worker.state, worker.model, worker.token) == (WorkerState.STARTING, "tiny", "t" * 40)


def test_workers_whose_labels_were_edited_to_the_same_text_were_not_bought_twice() -> None:
    workers = read_all(*(instance(id=number, label="llmhost/test/mine") for number in (5, 7)))
    assert {worker.state for worker in workers} == {WorkerState.STARTING}


def test_of_two_instances_for_one_order_the_older_is_the_worker() -> None:
    newer, older = read_all(instance(id=9), instance(id=5), instance(id=7))[1:], read_one(id=5)
    first, *others = read_all(instance(id=9), instance(id=5), instance(id=7))
    assert first == older
    assert [worker.id for worker in others] == [worker.id for worker in newer] == ["vast-7", "vast-9"]
    assert {(worker.state, worker.detail) for worker in others} == {
        (WorkerState.FAILED, "bought twice for one order: vast-5 is the one that counts")
    }


def test_workers_are_listed_oldest_first() -> None:
    rows = [
        instance(id=1, label="llmhost/test/1700000300-00000000"),
        instance(id=2, label="llmhost/test/1700000100-00000000"),
        instance(id=3, label="llmhost/test/1700000200-00000000"),
    ]
    assert [worker.id for worker in read_all(*rows)] == ["vast-2", "vast-3", "vast-1"]


@pytest.mark.parametrize(
    ("changes", "target"),
    [
        (
            {"ports": {"22/tcp": [{"HostIp": EVERYWHERE, "HostPort": "20000"}]}},
            SshTarget("root", "192.0.2.45", 20000),
        ),
        ({}, SshTarget("root", "ssh7.vast.ai", 10312)),
        ({"ports": None, "ssh_host": None, "ssh_port": None}, None),
    ],
    ids=["at the instance's own port", "else at the relay", "nowhere yet"],
)
def test_where_an_instances_shell_is(changes: dict[str, Any], target: SshTarget | None) -> None:
    assert ssh_of(row(instance(**changes))) == target


@pytest.mark.parametrize(
    ("name", "number"), [("vast-312", 312), ("vast-0", None), ("vast-", None), ("312", None)]
)
def test_the_number_of_an_instance_is_in_its_workers_name(name: str, number: int | None) -> None:
    assert number_in(name) == number


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
ODD_INSTANCE = st.dictionaries(st.sampled_from([*instance(), "HostPort", "other"]), ANYTHING, max_size=4)


@given(ODD_INSTANCE, ANYTHING)
def test_whatever_a_row_holds_a_worker_of_ours_is_listed(changes: dict[str, Any], port: Any) -> None:
    values = instance(**changes) | {"id": 312, "label": LABEL}
    if "ports" not in changes:
        values["ports"] = {"8443/tcp": port, "22/tcp": [{"HostPort": port}]}
    (worker,) = read_all(values)
    assert worker.id == "vast-312"
    with suppress(ProviderError):
        ssh_of(row(values))


@given(ODD_INSTANCE)
def test_whatever_a_strangers_row_holds_it_does_not_matter(changes: dict[str, Any]) -> None:
    stranger = instance(label="theirs") | changes | {"id": 7}
    if str(stranger["label"]).startswith("llmhost/test/"):
        stranger["label"] = "theirs"
    assert [worker.id for worker in read_all(instance(), stranger)] == ["vast-312"]


def offer(**changes: Any) -> dict[str, Any]:
    return {
        "id": 7,
        "machine_id": 77,
        "gpu_name": "RTX 4090",
        "num_gpus": 1,
        "dph_total": 0.41,
        "min_bid": 0.2,
        "reliability": 0.99,
        "reliability2": 0.99,
        "geolocation": "Sweden, SE",
        "dlperf": 98.0,
        "inet_down": 850.0,
        "inet_down_cost": 0.002,
        "cuda_max_good": 12.8,
        "disk_space": 800.0,
        "storage_cost": 0.15,
        "storage_total_cost": 0.01,
        "verification": "verified",
        "direct_port_count": 100,
        "gpu_mem_bw": 1008.0,
        "duration": 30 * 86_400.0,
    } | changes


@pytest.fixture
def bidding(vast_settings: VastConfig) -> VastConfig:
    return vast_settings.model_copy(update={"interruptible": True, "max_bid": 0.5})


def test_an_offer_is_read_with_all_that_one_chooses_by(vast_settings: VastConfig) -> None:
    (read,) = read_market([offer()], vast_settings).offers
    assert (read.id, read.machine, read.gpu, read.region) == ("7", "77", "RTX 4090", "Sweden, SE")
    assert (read.price_per_hour, read.bid, read.performance, read.reliability) == (0.41, None, 98.0, 0.99)
    assert (read.download, read.download_price, read.cuda, read.verified) == (850.0, 0.002, 12.8, True)
    assert (read.bandwidth, read.contract) == (1008.0, 2_592_000.0)


def test_an_offer_whose_contract_ends_before_the_expected_stay_is_rejected(
    vast_settings: VastConfig,
) -> None:
    settings = vast_settings.model_copy(update={"expected_stay": 7200.0})
    rows = [offer(id=1, duration=1800.0), offer(id=2, duration=None), offer(id=3, duration=7200.0)]
    market = read_market(rows, settings)
    assert [found.id for found in market.offers] == ["3"]
    assert market.rejected == {"contract shorter than vast.expected_stay": 2}


@pytest.mark.parametrize(
    ("date", "ends"),
    [(NOW + 600, NOW + 600), (None, None), ("soon", None), (-1, None), (10**400, None), ([], None)],
)
def test_the_end_of_a_contract_is_read_and_an_odd_one_is_unknown(date: Any, ends: float | None) -> None:
    (worker,) = read_all(instance(end_date=date))
    assert (worker.ends, worker.stage) == (ends, "installing")


def test_an_unknown_price_of_traffic_is_not_free(vast_settings: VastConfig) -> None:
    (read,) = read_market([offer(inet_down_cost=None)], vast_settings).offers
    assert read.download_price is None


def test_each_filter_says_how_many_it_turned_away(vast_settings: VastConfig) -> None:
    rows = [
        offer(id=1),
        offer(id=2, gpu_name="RTX 3090"),
        offer(id=3, gpu_name="RTX 3090", reliability=0.5),
        offer(id=4, reliability=0.5),
        offer(id=5, disk_space=49.9),
        offer(id=6, dph_total=0.51),
    ]
    market = read_market(rows, vast_settings.model_copy(update={"max_price": 0.5}))
    assert [found.id for found in market.offers] == ["1"]
    assert market.rejected == {
        "gpu_name=RTX_4090": 2,
        "reliability>0.95": 1,
        "disk_space>=50": 1,
        "dph_total<=0.5": 1,
    }


def test_what_cannot_be_read_is_counted_and_stops_nothing(vast_settings: VastConfig) -> None:
    rows = [offer(), 7, None, offer(id=None), offer(dph_total="cheap"), offer(machine_id=None)]
    market = read_market(rows, vast_settings)
    assert (len(market.offers), market.rejected) == (1, {"unreadable": 5})


@pytest.mark.parametrize(
    ("least", "bid"), [(0.2, 0.22), (0.3, 0.33), (0.2001, 0.221), (0.48, 0.5), (0.5, 0.5)]
)
def test_a_bid_is_a_tenth_over_the_least_and_never_over_the_ceiling(
    bidding: VastConfig, least: float, bid: float
) -> None:
    (read,) = read_market([offer(min_bid=least)], bidding).offers
    assert (read.bid, read.price_per_hour) == (pytest.approx(bid), pytest.approx(bid + 0.01))


def test_an_offer_that_wants_more_than_the_ceiling_is_turned_away(bidding: VastConfig) -> None:
    assert read_market([offer(min_bid=0.501)], bidding).rejected == {"bid over vast.max_bid": 1}


def test_the_highest_price_is_a_ceiling_for_bids_too(bidding: VastConfig) -> None:
    settings = bidding.model_copy(update={"max_bid": None, "max_price": 0.25})
    (read,) = read_market([offer(min_bid=0.235)], settings).offers
    assert (read.bid, read.price_per_hour) == (pytest.approx(0.24), pytest.approx(0.25))
    assert read_market([offer(min_bid=0.2401)], settings).rejected == {"dph_total<=0.25": 1}


@pytest.mark.parametrize("disk", [0.01, 0.0104, 0.1, 0.07])
def test_a_bid_that_uses_up_the_highest_price_to_the_last_bit_still_fits(
    bidding: VastConfig, disk: float
) -> None:
    settings = bidding.model_copy(update={"max_bid": None, "max_price": 0.25})
    row = offer(min_bid=0.25 - disk, storage_total_cost=disk)
    assert len(read_market([row], settings).offers) == 1


@given(
    least=st.floats(0.001, 130),
    disk=st.floats(0, 1),
    max_bid=st.none() | st.floats(0.001, 128),
    max_price=st.none() | st.floats(0.001, 128),
)
def test_no_bid_is_ever_over_a_limit(
    least: float, disk: float, max_bid: float | None, max_price: float | None
) -> None:
    settings = VastConfig.model_construct(offers="", max_price=max_price, interruptible=True, max_bid=max_bid)
    for found in read_market([offer(min_bid=least, storage_total_cost=disk)], settings).offers:
        assert found.bid is not None
        assert found.bid >= least
        assert max_bid is None or found.bid <= max_bid
        assert max_price is None or found.price_per_hour <= max_price + 1e-9


ODD_OFFER = st.dictionaries(st.sampled_from([*offer(), "other"]), ANYTHING, max_size=4)


@given(st.lists(ODD_OFFER.map(lambda changes: offer(**changes)) | ANYTHING, max_size=4), st.booleans())
def test_every_row_of_the_market_is_an_offer_or_is_counted(rows: list[Any], bids: bool) -> None:
    settings = VastConfig(offers="gpu_name=RTX_4090", max_price=1.0, interruptible=bids, max_bid=0.5)
    market = read_market(rows, settings)
    assert len(market.offers) + sum(market.rejected.values()) == len(rows)


def charge(**changes: Any) -> dict[str, Any]:
    return {
        "start": 1_699_920_000,
        "end": 1_700_006_400,
        "type": "instance",
        "source": "instance-312",
        "amount": 0.42,
        "metadata": {"label": LABEL},
        "items": [],
    } | changes


def test_charges_are_those_of_the_fleets_instances() -> None:
    others = [charge(metadata={"label": "mine"}), charge(metadata={}), charge(metadata=None)]
    assert read_charges([charge(), *others], "test") == (
        Charge("vast-312", 0.42, 1_699_920_000.0, 1_700_092_800.0),
    )


@pytest.mark.parametrize(
    ("items", "hours"),
    [
        ([("gpu", "90.000 hours at $0.389/hour"), ("disk", "96.000 hours at $0.010/hour")], 96.0),
        ([("disk", "90.000 hours at $0.010/hour"), ("disk", "6.000 hours at $0.02/hour")], 96.0),
        ([("disk", "as agreed")], None),
        ([("gpu", "96.000 hours at $0.389/hour")], None),
        ([], None),
    ],
)
def test_what_was_billed_goes_as_far_as_the_hours_of_its_disk_and_not_to_a_day_stamp(
    items: list[tuple[str, str]], hours: float | None
) -> None:
    row = charge(items=[{"type": kind, "description": text} for kind, text in items])
    (read,) = read_charges([row], "test")
    end_of_day = row["end"] + 86_400
    assert read.until == (end_of_day if hours is None else float(LABEL.split("/")[2][:10]) + hours * 3600)


@pytest.mark.parametrize("items", [None, 7, "odd", [None, 7], {"type": "disk"}])
def test_odd_items_of_a_charge_are_no_obstacle(items: Any) -> None:
    (read,) = read_charges([charge(items=items)], "test")
    assert read.usd == 0.42


def test_an_amount_of_traffic_that_is_no_sum_of_money_counts_as_none() -> None:
    odd = [{"type": "bwd", "amount": amount} for amount in (10**400, float("nan"), float("inf"), "1", 0.02)]
    (read,) = read_charges([charge(items=odd)], "test")
    assert read.traffic == 0.02


@pytest.mark.parametrize(
    "changes",
    [
        {"source": "volume-3"},
        {"source": None},
        {"amount": None},
        {"amount": "0.42"},
        {"start": None},
        {"end": "later"},
        {"metadata": []},
    ],
)
def test_a_charge_that_cannot_be_read_is_an_error(changes: dict[str, Any]) -> None:
    with pytest.raises(ProviderError):
        read_charges([charge(**changes)], "test")


@given(
    st.lists(ANYTHING | st.dictionaries(st.sampled_from([*charge()]), ANYTHING).map(lambda c: charge(**c)))
)
def test_no_bill_whatever_raises_anything_but_a_provider_error(rows: list[Any]) -> None:
    with suppress(ProviderError):
        read_charges(rows, "test")


@pytest.mark.parametrize(
    ("user", "credit"),
    [
        ({"credit": 12.5, "balance": 3.0}, 12.5),
        ({"credit": None, "balance": 3.0}, 3.0),
        ({"balance": 0}, 0.0),
        ({"credit": -1.5}, -1.5),
    ],
)
def test_the_credit_is_what_is_left(user: dict[str, Any], credit: float) -> None:
    assert read_account(user).credit == credit


@pytest.mark.parametrize("user", [None, [], {}, {"credit": "12"}, {"credit": float("nan")}])
def test_an_account_without_a_credit_is_an_error(user: Any) -> None:
    with pytest.raises(ProviderError):
        read_account(user)
