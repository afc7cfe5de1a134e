"""`GET /api/v1/instances/`, and the ways in which it lies."""

from __future__ import annotations

from doubles.vast.answers import Answer, as_json
from doubles.vast.faults import LIST, Fault, Faults
from doubles.vast.instances import Instance, is_known
from doubles.vast.routes import Call
from doubles.vast.rows import page
from doubles.vast.world import World


class Listing:
    def __init__(self, world: World, faults: Faults) -> None:
        self._world = world
        self._faults = faults

    def list(self, call: Call) -> Answer:
        now = self._world.clock.now()
        body = page([one for one in self._world.instances.values() if _shows(one, now)], call.query, now)
        armed = self._faults.take(*LIST)
        rows = body["instances"]
        match armed and armed.fault:
            case Fault.LIST_SHORT:
                body["instances"] = rows[:-1]
            case Fault.LIST_NO_TOKEN:
                del body["next_token"]
            case Fault.LIST_LOOPS:
                body["next_token"] = call.query.get("after_token") or body["next_token"]
            case Fault.LIST_ARRAY:
                return as_json(rows)
            case Fault.LIST_NULL:
                body["instances"] = None
            case Fault.LIST_ODD_ROWS:
                body["instances"] = ["odd", None, *rows]
            case Fault.LIST_NO_ID:
                body["instances"] = [{key: one[key] for key in one if key != "id"} for one in rows]
            case Fault.LIST_EMPTY:
                body = page([], call.query, now)
            case Fault.LIST_REFUSED:
                body = {**page([], call.query, now), "success": False, "msg": "Something went wrong."}
        return as_json(body)


def _shows(instance: Instance, now: float) -> bool:
    late = instance.quirks.get(Fault.LISTED_LATE) or 0.0
    return is_known(instance, now) and now >= instance.created + late
