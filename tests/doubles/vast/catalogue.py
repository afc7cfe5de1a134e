"""What is for rent unless a test says otherwise: forty offers, good, dear and odd ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Offer = dict[str, Any]

#: Of one card: MB of memory, vast.ai's own score, TFLOPS, compute capability x 100.
CARDS: Mapping[str, tuple[int, float, float, int]] = {
    "RTX 4090": (24564, 98.0, 82.6, 890),
    "RTX 3090": (24576, 47.0, 35.6, 860),
    "H100 SXM": (81559, 320.0, 133.8, 900),
    "H200": (143771, 375.0, 133.8, 900),
}

#: First ids; far apart, so that no test takes one kind for another.
FIRST_OFFER, FIRST_MACHINE, FIRST_HOST = 7_000_001, 20_001, 30_001

#: Why each of these RTX 4090s is not what one wants.
ODD: tuple[Mapping[str, Any], ...] = (
    {"dph_base": 0.15, "reliability": 0.62},
    {"dph_base": 0.16, "reliability": 0.91},
    {"dph_base": 0.17, "verification": "unverified"},
    {"dph_base": 0.18, "verification": "deverified"},
    {"dph_base": 0.19, "direct_port_count": 0},
    {"dph_base": 0.19, "direct_port_count": 1},
    {"dph_base": 0.19, "direct_port_count": 2},
    {"dph_base": 0.19, "duration": 1800.0},
    {"dph_base": 2.75},
    {"dph_base": 0.20, "inet_down": 4.0, "inet_up": 1.0},
    {"dph_base": 0.20, "cuda_max_good": 11.4},
    {"dph_base": 0.21, "disk_space": 12.0},
    {"dph_base": 0.22, "external": True},
    {"dph_base": 0.23, "inet_down_cost": 0.09, "inet_up_cost": 0.09},
    {"dph_base": 0.24, "rentable": False},
)

REGIONS = ("Sweden, SE", "California, US", "Quebec, CA", "Czechia, CZ", "Taiwan, TW", "Iceland, IS")


def make_offer(**changes: Any) -> Offer:
    """A good single RTX 4090. Prices of which the disk is a part are worked out at the search.

    `dph_base` is USD an hour, `storage_cost` USD per GB and 30 days, `inet_*` Mbit/s, `inet_*_cost` USD per
    GB, `gpu_ram` and `cpu_ram` MB, `duration` seconds that it can be rented for.
    """
    name, cards = changes.get("gpu_name", "RTX 4090"), changes.get("num_gpus", 1)
    memory, score, flops, capability = CARDS[name]
    base = changes.get("dph_base", 0.35)
    offer = {
        "id": FIRST_OFFER,
        "machine_id": FIRST_MACHINE,
        "host_id": FIRST_HOST,
        "gpu_name": name,
        "num_gpus": cards,
        "gpu_ram": memory,
        "gpu_total_ram": memory * cards,
        "dlperf": score * cards,
        "total_flops": flops * cards,
        "compute_cap": capability,
        "dph_base": base,
        "min_bid": round(base * 0.6, 4),
        "reliability": 0.995,
        "verification": "verified",
        "geolocation": REGIONS[0],
        "direct_port_count": 100,
        **_COMMON,
        **changes,
    }
    offer["reliability2"] = offer["reliability"]
    return offer


_COMMON: Mapping[str, Any] = {
    "bundled_results": None,
    "bw_nvlink": 0.0,
    "cluster_id": None,
    "cpu_arch": "amd64",
    "cpu_cores": 32,
    "cpu_cores_effective": 16.0,
    "cpu_ghz": 3.4,
    "cpu_name": "16-Core Processor",
    "cpu_ram": 128_000,
    "cuda_max_good": 12.8,
    "disk_bw": 3500.0,
    "disk_name": "NVMe 2TB",
    "disk_space": 800.0,
    "driver_version": "570.86.10",
    "duration": 30 * 86400.0,
    "external": None,
    "gpu_arch": "nvidia",
    "gpu_display_active": False,
    "gpu_frac": 1.0,
    "gpu_lanes": 16,
    "gpu_max_power": 450.0,
    "gpu_max_temp": 90.0,
    "gpu_mem_bw": 1008.0,
    "has_avx": 1,
    "hosting_type": 0,
    "inet_down": 850.0,
    "inet_down_cost": 0.002,
    "inet_up": 600.0,
    "inet_up_cost": 0.003,
    "logo": "/static/logos/none.png",
    "mobo_name": "Z790",
    "os_version": "22.04",
    "pci_gen": 4.0,
    "pcie_bw": 24.0,
    "rentable": True,
    "resource_type": "gpu",
    "static_ip": True,
    "storage_cost": 0.15,
    "vms_enabled": False,
    "webpage": None,
}


def default_catalogue() -> list[Offer]:
    return [_placed(number, offer) for number, offer in enumerate(_offers())]


def _offers() -> Iterator[Offer]:
    yield from (make_offer(dph_base=round(0.30 + 0.02 * n, 2)) for n in range(12))
    yield from (make_offer(num_gpus=2, dph_base=round(0.66 + 0.1 * n, 2)) for n in range(2))
    yield from (make_offer(gpu_name="RTX 3090", dph_base=round(0.14 + 0.02 * n, 2)) for n in range(7))
    yield from (make_offer(gpu_name="H100 SXM", dph_base=round(1.9 + 0.2 * n, 2)) for n in range(4))
    yield from (make_offer(gpu_name="H200", dph_base=round(2.6 + 0.3 * n, 2)) for n in range(2))
    yield from (make_offer(**changes) for changes in ODD)


def _placed(number: int, offer: Offer) -> Offer:
    """Its own id and place. The first two share a machine; otherwise each has its own."""
    machine = max(number - 1, 0)
    return {
        **offer,
        "id": FIRST_OFFER + number,
        "machine_id": FIRST_MACHINE + machine,
        "host_id": FIRST_HOST + machine // 3,
        "geolocation": REGIONS[number % len(REGIONS)],
    }
