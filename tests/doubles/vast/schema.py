"""The fields that vast.ai publishes of its answers, and for each field values that do not fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, tuple[type, ...]]

NUMBER, NONE = (int, float), type(None)
INT, TEXT, FLAG, LIST, OBJECT = (int,), (str,), (bool,), (list,), (dict,)


def fields(names: str, types: tuple[type, ...]) -> dict[str, tuple[type, ...]]:
    return dict.fromkeys(names.split(), types)


#: Published under GET /api/v1/instances/ (api-reference/openapi: show_instances).
INSTANCE: Schema = {
    **fields("id machine_id host_id num_gpus ssh_port direct_port_count cpu_cores cpu_ram", INT),
    **fields("gpu_ram gpu_totalram gpu_lanes", INT),
    **fields("cur_state next_state intended_status image_uuid image_runtype onstart gpu_name", TEXT),
    **fields("public_ipaddr local_ipaddrs ssh_host ssh_idx geolocation verification cpu_arch", TEXT),
    **fields("cpu_name gpu_arch disk_name mobo_name time_remaining time_remaining_isbid", TEXT),
    **fields("actual_status label status_msg template_hash_id template_name", (str, NONE)),
    **fields("dph_base dph_total min_bid storage_cost storage_total_cost disk_space end_date", NUMBER),
    **fields("duration reliability2 gpu_frac gpu_mem_bw disk_bw disk_usage disk_util pci_gen", NUMBER),
    **fields("pcie_bw cpu_cores_effective cpu_util total_flops bw_nvlink client_run_time", NUMBER),
    **fields("host_run_time", NUMBER),
    **fields("start_date uptime_mins mem_limit mem_usage vmem_usage gpu_util gpu_temp", (*NUMBER, NONE)),
    **fields("dlperf credit_balance credit_discount template_id", (*NUMBER, NONE)),
    **fields("is_bid static_ip rentable", FLAG),
    **fields("extra_env image_args", LIST),
    **fields("search instance", OBJECT),
    **fields("ports", (dict, NONE)),
    **fields("webpage os_version", (str, NONE)),
}
PAGE: Schema = {
    **fields("success", FLAG),
    **fields("instances_found total_instances", INT),
    **fields("label_counts", OBJECT),
    **fields("next_token", (str, NONE)),
    **fields("instances", LIST),
}

#: Published under POST /api/v0/bundles/ (search_offers).
OFFER: Schema = {
    **fields("id ask_contract_id machine_id host_id num_gpus gpu_ram gpu_total_ram cpu_cores", INT),
    **fields("cpu_ram compute_cap direct_port_count gpu_lanes hosting_type has_avx", INT),
    **fields("dph_base dph_total min_bid dlperf dlperf_per_dphtotal flops_per_dphtotal score", NUMBER),
    **fields("reliability reliability2 inet_down inet_up inet_down_cost inet_up_cost duration", NUMBER),
    **fields("disk_space disk_bw storage_cost storage_total_cost cuda_max_good total_flops", NUMBER),
    **fields("cpu_cores_effective cpu_ghz gpu_frac gpu_mem_bw gpu_max_power gpu_max_temp", NUMBER),
    **fields("bw_nvlink pci_gen pcie_bw end_date start_date", NUMBER),
    **fields("gpu_name geolocation verification cpu_arch cpu_name disk_name driver_version", TEXT),
    **fields("gpu_arch mobo_name os_version resource_type public_ipaddr", TEXT),
    **fields("is_bid rentable rented static_ip gpu_display_active vms_enabled", FLAG),
    **fields("external", (bool, NONE)),
    **fields("search", OBJECT),
}
OFFERS: Schema = fields("offers", LIST)

#: Published under GET /api/v0/charges/ (show_charges).
CHARGES: Schema = {
    **fields("success", FLAG),
    **fields("count total", INT),
    **fields("next_token", (str, NONE)),
    **fields("results", LIST),
}
CHARGE: Schema = {
    **fields("start end", INT),
    **fields("type source description", TEXT),
    **fields("amount", NUMBER),
    **fields("metadata", OBJECT),
    **fields("items", LIST),
}
ITEM: Schema = {**CHARGE, **fields("source", (NONE,))}

#: Published under GET /api/v0/users/current/ (show_user).
USER: Schema = {**fields("id key_id", INT), **fields("email ssh_key sid", TEXT), **fields("balance", NUMBER)}

ERROR: Schema = {**fields("success", FLAG), **fields("error msg", TEXT)}

#: What stands for a field that is left out.
ABSENT = object()

#: One value of each type that JSON has, and some that few expect.
ODD_VALUES: Mapping[str, Any] = {
    "null": None,
    "absent": ABSENT,
    "a flag": True,
    "a number": 7,
    "a fraction": -0.5,
    "a huge number": 10**30,
    "text": "odd \x1b[31m\ud800",
    "empty text": "",
    "a list": [None, "odd"],
    "an empty list": [],
    "an object": {"odd": None},
}


def with_odd(row: Mapping[str, Any], odd: Mapping[str, Any]) -> dict[str, Any]:
    """The row with these fields in the place of its own."""
    return {name: value for name, value in {**row, **odd}.items() if value is not ABSENT}
