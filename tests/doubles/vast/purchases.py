"""`PUT /asks/{id}/`: buying, and all that can go wrong with it."""

from __future__ import annotations

from doubles.vast.answers import CUT, SILENT, Answer, Refused, as_json, as_text, refusal, success
from doubles.vast.faults import AFFLICTIONS, CREATE_EXECUTED, CREATE_REFUSED, Armed, Fault, Faults
from doubles.vast.instances import Instance
from doubles.vast.orders import Order, read_order
from doubles.vast.routes import Call
from doubles.vast.world import World


class Purchases:
    def __init__(self, world: World, faults: Faults) -> None:
        self._world = world
        self._faults = faults

    def create(self, call: Call) -> Answer:
        order = read_order(call.id, call.body)
        if self._world.credit <= 0:
            raise refusal(400, "insufficient_credit", "Your account lacks credit; see the billing page.")
        refused = self._faults.take(*CREATE_REFUSED, offer=call.id)
        if refused:
            self._spoil(call.id, refused)
        self._check_ask(call.id, order)
        return self._execute(call.id, order)

    def _execute(self, ask: int, order: Order) -> Answer:
        fault = self._faults.take(*CREATE_EXECUTED, offer=ask)
        instance = self._buy(ask, order)
        match fault and fault.fault:
            case Fault.CREATE_SILENT:
                return SILENT
            case Fault.CREATE_CUT:
                return CUT
            case Fault.CREATE_GARBAGE:
                return as_text("<html>upstream sent something odd")
            case Fault.CREATE_NO_ID:
                return success()
            case Fault.CREATE_ERROR_BUT_BOUGHT:
                return _failed_but_bought(ask, instance)
            case Fault.CREATE_GONE_BUT_BOUGHT:
                raise _taken(ask)
            case Fault.CREATE_TWICE:
                # The second starts as well, on the same ask: both are paid for.
                self._world.market.give_back(ask)
                self._buy(ask, order)
        return success(new_contract=instance.id, instance_api_key=instance.key)

    def _buy(self, ask: int, order: Order) -> Instance:
        instance = self._world.buy(self._world.market.offers[ask], order)
        for affliction in AFFLICTIONS:
            armed = self._faults.take(affliction, offer=ask)
            if armed:
                self._world.afflict(instance, armed)
        return instance

    def _spoil(self, ask: int, armed: Armed) -> None:
        if armed.fault is Fault.SPEND_RATE:
            msg = "New accounts may not rent so much at a time."
            raise refusal(400, "spend_rate_limit", msg, ask_id=ask)
        if armed.fault is Fault.CREATE_NAMES:
            raise refusal(410, "no_such_ask", "error 410/3907", new_contract=int(armed.value or 0))
        if armed.fault is Fault.OFFER_GONE:
            self._world.market.vanish(ask)
            raise _gone(ask)
        self._world.market.take(ask)
        raise _taken(ask)

    def _check_ask(self, ask: int, order: Order) -> None:
        market = self._world.market
        offer = market.offers.get(ask)
        if offer is None or not offer["rentable"]:
            raise _gone(ask)
        too_low = order.price is not None and order.price < offer["min_bid"]
        if order.cancel_unavailable and (ask in market.rented or too_low):
            raise _taken(ask)


def _gone(ask: int) -> Refused:
    msg = f"error 404/3603: no_such_ask Instance type by id {ask} is not available."
    return refusal(404, "invalid_args", msg, ask_id=ask)


def _taken(ask: int) -> Refused:
    msg = f"error 410/3907: no_such_ask Instance type {ask} is no longer available."
    return refusal(410, "no_such_ask", msg, ask_id=ask)


def _failed_but_bought(ask: int, instance: Instance) -> Answer:
    body = {
        "success": False,
        "error": "no_such_ask",
        "msg": f"error 410/3907: no_such_ask Instance type {ask} is no longer available.",
        "ask_id": ask,
        "new_contract": instance.id,
    }
    return as_json(body, 410)
