"""Keys are a format: what a new version does not find under the old name is lost."""

from __future__ import annotations

from pathlib import Path

from redis.crc import key_slot

import llmhost
from llmhost.store.keys import FleetKeys, NamespaceKeys


def test_keys_of_a_fleet_are_named_as_documented() -> None:
    keys = FleetKeys("f")
    assert [keys.worker("w"), keys.load("w"), keys.speed("w"), keys.ledger_sums("minute", 60)] == [
        "llmhost:f:worker:w",
        "llmhost:f:load:w",
        "llmhost:f:speed:w",
        "llmhost:f:ledger:minute:60",
    ]
    assert [
        keys.workers,
        keys.machines,
        keys.scale,
        keys.traffic,
        keys.draining,
        keys.judge,
        keys.condenser,
    ] == [
        "llmhost:f:workers",
        "llmhost:f:machines",
        "llmhost:f:scale",
        "llmhost:f:traffic",
        "llmhost:f:draining",
        "llmhost:f:judge",
        "llmhost:f:condenser",
    ]
    assert keys.gpu_speed("m:7b", "RTX 4090") == "llmhost:f:gpu:RTX 4090:m:7b"
    assert [keys.ledger_periods, keys.rentals, keys.bills, keys.boots] == [
        "llmhost:f:ledger:periods",
        "llmhost:f:ledger:rentals",
        "llmhost:f:ledger:bills",
        "llmhost:f:ledger:boots",
    ]


def test_the_hits_of_each_policy_have_keys_of_their_own() -> None:
    keys = FleetKeys("f")
    assert [keys.trust("verified"), keys.audits("verified")] == ["llmhost:f:trust", "llmhost:f:audits"]
    assert [keys.trust("threshold"), keys.audits("threshold")] == [
        "llmhost:f:trust:threshold",
        "llmhost:f:audits:threshold",
    ]


def test_keys_of_a_namespace_are_named_as_documented() -> None:
    keys = NamespaceKeys("cache")
    names = [keys.embedding("e"), keys.response("e"), keys.metadata("e"), keys.flight("e")]
    names += [keys.index("minilm", "s"), keys.flat("minilm", "s"), keys.vectors("minilm", "s")]
    names += [
        keys.vector_log("minilm", "s"),
        keys.vector("minilm", "e"),
        keys.judged("p"),
        keys.condensed("c"),
        keys.served("blue", "acme"),
    ]
    assert names == [
        "cache:embedding:e",
        "cache:response:e",
        "cache:metadata:e",
        "cache:flight:e",
        "cache:index:minilm:s",
        "cache:flat:minilm:s",
        "cache:vectors:minilm:s",
        "cache:vector_log:minilm:s",
        "cache:vector:minilm:e",
        "cache:judged:p",
        "cache:condensed:c",
        "cache:served:blue:acme",
    ]
    whole = {keys.layout, keys.recent, keys.volume}
    assert whole == {"cache:layout", "cache:recent", "cache:volume"}
    kinds = {name.split(":")[1] for name in names}
    assert set(keys.everything()) == {
        *(f"cache:{kind}:*" for kind in kinds),
        keys.layout,
        keys.recent,
        keys.volume,
    }


def test_no_other_file_spells_the_keys_of_a_fleet() -> None:
    root = Path(llmhost.__file__).parent
    files = [path for kind in ("*.py", "*.lua") for path in root.rglob(kind)]
    assert [str(path.relative_to(root)) for path in files if "llmhost:{" in path.read_text()] == [
        "store/keys.py"
    ]


def slots(*names: str) -> int:
    return len({key_slot(name.encode()) for name in names})


def test_on_a_cluster_what_changes_together_is_in_one_slot() -> None:
    fleet, cache = FleetKeys("f", sharded=True), NamespaceKeys("cache", sharded=True)
    assert fleet.worker("w") == "llmhost:{f}:worker:w"
    of_fleet = [fleet.workers, fleet.scale, fleet.purchases, fleet.rentals, fleet.ledger_sums("day", 0)]
    assert slots(*of_fleet, fleet.load("w"), fleet.traffic, fleet.trust("verified"), fleet.trial) == 1
    assert cache.response("e") == "cache:response:{e}"
    of_entry = [cache.response("e"), cache.metadata("e"), cache.embedding("e"), cache.flight("e")]
    assert slots(*of_entry, cache.vector("minilm", "e")) == 1
    assert slots(cache.flat("m", "s"), cache.index("m", "s"), cache.vector_log("m", "s")) == 1
    assert slots(cache.recent, cache.volume) == 1
    assert slots(*(cache.vectors("m", "s", shard) for shard in range(8))) == 8


def test_the_id_in_a_name_is_the_same_with_and_without_a_cluster() -> None:
    for sharded in (False, True):
        keys = NamespaceKeys("{c}", sharded)
        names = [
            keys.response("e"),
            keys.vector("m:1", "e"),
            keys.vectors("m", "e"),
            keys.vectors("m", "e", 3),
        ]
        assert {keys.id_in(name) for name in names} == {"e"}
