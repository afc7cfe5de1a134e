"""configs/grafana.json reads what a gateway says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from doubles.gateway_house import Serve
from prometheus_client.parser import text_string_to_metric_families

DASHBOARD: Any = json.loads((Path(__file__).parents[2] / "configs" / "grafana.json").read_text())
PANELS: Any = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]] + [
    variable["query"]["query"] for variable in DASHBOARD["templating"]["list"] if variable["type"] == "query"
]
#: a metric, with what is said of its labels
SELECTOR = re.compile(r"\b((?:llmhost|gen_ai|process)_[a-z_]+)(?:\{([^}]*)\}|, (\w+)\))")
LABEL = re.compile(r"([a-z_]+)=~?\"")
#: Prometheus adds these
OF_PROMETHEUS = {"instance", "job"}


async def test_each_metric_and_label_of_the_dashboard_exists(serve: Serve) -> None:
    known: dict[str, set[str]] = {}
    for shadow in (False, True):
        async with serve(cache={"shadow": shadow}) as house:
            for _ in range(2):
                await house.chat()
            answer = await house.http.get("/metrics")
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples:
                known.setdefault(sample.name, set()).update(sample.labels)
    used = [match for query in QUERIES for match in SELECTOR.findall(query)]
    assert len(used) >= len(QUERIES)
    for name, labels, of_values in used:
        assert name in known
        asked = {*LABEL.findall(labels), *([of_values] if of_values else [])} - OF_PROMETHEUS
        assert asked <= known[name], name


def test_the_dashboard_is_one_that_grafana_can_draw() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    for panel in PANELS:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        assert panel["targets"]
    for query in QUERIES:
        assert all(query.count(one) == query.count(other) for one, other in ("()", "{}", "[]"))
