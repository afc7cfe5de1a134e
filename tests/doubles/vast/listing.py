"""`GET /api/v1/instances/`, and the ways in which it lies."""

from __future__ import annotations

from doubles.vast.answers import Answer, as_json
from doubles.vast.faults import LIST, Fault, Faults
from doubles.vast.routes import Call
from doubles.vast.rows import page
from doubles.vast.world import World


class Listing:
    def __init__(self, world: World, faults: Faults) -> None:
        self._world = world
        self._faults = faults

    def list(self, call: Call) -> Answer:
        body = page(self._world.instances.values(), call.query, self._world.clock.now())
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
        return as_json(body)
