"""An instance as the list shows it, and the pages of that list."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from doubles.vast.answers import refusal
from doubles.vast.faults import Fault
from doubles.vast.filters import check, in_order, invalid, matches
from doubles.vast.instances import Instance, extra_env, ports
from doubles.vast.schema import with_odd

#: The most rows in a page, and how many come when fewer than one are asked for; published.
PAGE, SMALL_PAGE = 25, 5

#: Of an offer, what its instances show as well.
OF_OFFER = (
    *("machine_id", "host_id", "gpu_name", "num_gpus", "gpu_ram", "gpu_arch", "gpu_frac", "gpu_lanes"),
    *("gpu_mem_bw", "cpu_arch", "cpu_cores", "cpu_cores_effective", "cpu_name", "cpu_ram", "cuda_max_good"),
    *("disk_name", "disk_bw", "direct_port_count", "static_ip", "geolocation", "verification", "rentable"),
    *("reliability2", "os_version", "mobo_name", "pci_gen", "pcie_bw", "storage_cost", "hosting_type"),
    *("inet_down", "inet_up", "inet_down_cost", "inet_up_cost", "total_flops", "bw_nvlink", "webpage"),
)

#: What can be filtered and sorted by: the columns that are stored with the contract. The rest is computed.
OF_CONTRACT = ("machine_id", "host_id", "gpu_name", "verification", "geolocation")
COLUMNS = {
    *OF_CONTRACT,
    *("id", "label", "actual_status", "intended_status", "cur_state", "next_state"),
    *("is_bid", "min_bid", "start_date", "image_uuid"),
}


def stored(instance: Instance) -> dict[str, Any]:
    """The values of COLUMNS."""
    start = instance.created
    return {
        **{name: instance.offer[name] for name in OF_CONTRACT},
        "id": instance.id,
        "actual_status": instance.actual_status,
        "intended_status": instance.intended_status,
        "cur_state": instance.cur_state,
        "next_state": instance.next_state,
        "label": instance.label,
        "image_uuid": instance.order.image,
        "is_bid": instance.bid is not None,
        "min_bid": instance.min_bid,
        "start_date": None if Fault.NULL_START in instance.quirks else start,
    }


def row(instance: Instance, now: float) -> dict[str, Any]:
    offer, order = instance.offer, instance.order
    shown = {
        **{name: offer.get(name) for name in OF_OFFER},
        **stored(instance),
        "status_msg": instance.status_msg,
        "image_args": list(order.args),
        "image_runtype": order.runtype,
        "extra_env": extra_env(instance),
        "onstart": order.onstart,
        "jupyter_token": None,
        "template_id": None,
        "template_hash_id": None,
        "template_name": None,
        # As seen: with the line end of the command that found it out.
        "public_ipaddr": "127.0.0.1\n",
        "local_ipaddrs": "172.17.0.2 \n",
        "ports": ports(instance),
        "ssh_host": f"ssh{instance.id % 9 + 1}.vast.ai",
        "ssh_idx": str(instance.id % 9 + 1),
        "ssh_port": 10_000 + instance.id % 30_000,
        "machine_dir_ssh_port": None,
        "gpu_totalram": offer["gpu_total_ram"],
        **_times(instance, now),
        **_measured(instance),
        **_prices(instance),
    }
    return with_odd(shown, instance.odd)


def _times(instance: Instance, now: float) -> dict[str, Any]:
    return {
        "end_date": instance.created + instance.offer["duration"],
        "duration": max(instance.created + instance.offer["duration"] - now, 0.0),
        "uptime_mins": None,
        "client_run_time": 1.1,
        "host_run_time": 2_592_000.0,
        "time_remaining": "",
        "time_remaining_isbid": "",
    }


def _measured(instance: Instance) -> dict[str, Any]:
    running = instance.running
    return {
        "gpu_util": 0.0 if running else None,
        "gpu_temp": 41.0 if running else None,
        "cpu_util": 0.02,
        "mem_limit": 64.0 if running else None,
        "mem_usage": 1.2 if running else None,
        "vmem_usage": 0.5 if running else None,
        "disk_usage": 1.0,
        "disk_util": 0.1,
    }


def _prices(instance: Instance) -> dict[str, Any]:
    """`dph_total` is what it costs while it runs; `instance` what it costs now."""
    gpu, disk = instance.gpu_rate, instance.disk_rate
    now = gpu if instance.running else 0.0
    return {
        "dph_base": gpu,
        "dph_total": gpu + disk,
        "disk_space": instance.order.disk,
        "storage_total_cost": disk,
        "search": _cost(gpu, disk),
        "instance": _cost(now, disk),
        "dlperf": instance.offer["dlperf"],
        "credit_balance": None,
        "credit_discount": None,
    }


def _cost(gpu: float, disk: float) -> dict[str, float]:
    total = gpu + disk
    return {
        "gpuCostPerHour": gpu,
        "diskHour": disk,
        "totalHour": total,
        "discountTotalHour": 0.0,
        "discountedTotalPerHour": total,
    }


def page(instances: Iterable[Instance], query: Mapping[str, str], now: float) -> dict[str, Any]:
    """`GET /api/v1/instances/`. `instances` are all there ever were: a token may name one that is gone.

    Raises Refused (400) at a filter, an order or a token that does not exist.
    """
    filters = parsed(query, "select_filters", {})
    check(filters, COLUMNS)
    every = {instance.id: instance for instance in instances}
    contracts = in_order(map(stored, every.values()), _order(query))
    found = [one for one in contracts if every[one["id"]].alive and matches(one, filters)]
    after = {one["id"] for one in _after(contracts, query.get("after_token"))}
    rest = [every[one["id"]] for one in found if one["id"] in after]
    shown = rest[: _limit(query)]
    return {
        "success": True,
        "instances_found": len(shown),
        "total_instances": len(found),
        "label_counts": Counter(one["label"] or "" for one in found),
        "next_token": write_token({"id": shown[-1].id}) if len(rest) > len(shown) else None,
        "instances": [row(one, now) for one in shown],
    }


def _limit(query: Mapping[str, str]) -> int:
    limit = parsed(query, "limit", PAGE)
    return min(limit, PAGE) if limit > 0 else SMALL_PAGE


def _order(query: Mapping[str, str]) -> list[tuple[str, str]]:
    wanted = [(entry["col"], entry.get("dir", "asc")) for entry in parsed(query, "order_by", [])]
    for column, _ in wanted:
        if column not in COLUMNS:
            raise invalid(f"{column} is not a valid order key")
    return [*wanted, ("id", "asc")]


def _after(rows: list[Mapping[str, Any]], token: str | None) -> list[Mapping[str, Any]]:
    if not token:
        return rows
    last = read_token(token).get("id")
    return next((rows[place + 1 :] for place, one in enumerate(rows) if one["id"] == last), [])


def parsed(query: Mapping[str, str], name: str, default: Any) -> Any:
    try:
        return json.loads(query[name]) if name in query else default
    except ValueError as error:
        raise invalid(f"{name} is no JSON") from error


def write_token(values: Mapping[str, Any]) -> str:
    return base64.b64encode(json.dumps({"values": values}).encode()).decode()


def read_token(token: str) -> Mapping[str, Any]:
    """Raises Refused (400, invalid_token) where it is none of ours."""
    try:
        values: Mapping[str, Any] = json.loads(base64.b64decode(token, validate=True))["values"]
    except (ValueError, KeyError, TypeError) as error:
        raise refusal(400, "invalid_token", "Invalid pagination token") from error
    return values
