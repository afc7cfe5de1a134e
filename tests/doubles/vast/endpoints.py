"""What each endpoint does, apart from buying and listing."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any

from doubles.vast.answers import CUT, Answer, Refused, as_json, as_text, refusal, success
from doubles.vast.billing import charge
from doubles.vast.faults import Fault, Faults
from doubles.vast.instances import Instance, is_known
from doubles.vast.routes import Call
from doubles.vast.rows import parsed, read_token, row, write_token
from doubles.vast.world import World

#: Published: charges in a page unless asked, and at most.
CHARGES, MOST_CHARGES = 100, 500

#: How often a result is not there yet when it is asked for.
RESULT_LATE = 1


class Endpoints:
    """Answers calls by the name of their endpoint.

    `printed(instance)` is what its container printed; `url` is where the double answers.
    """

    def __init__(self, world: World, faults: Faults, printed: Callable[[int], str]) -> None:
        self.url = ""
        self._world = world
        self._faults = faults
        self._printed = printed
        self._results: dict[str, tuple[str, int]] = {}

    @property
    def handlers(self) -> Mapping[str, Callable[[Call], Answer]]:
        return {
            "search": self._search,
            "old_list": self._old_list,
            "show": self._show,
            "destroy": self._destroy,
            "logs": self._logs,
            "charges": self._charges,
            "user": self._user,
            "result": self._result,
        }

    def _search(self, call: Call) -> Answer:
        return as_json({"offers": self._world.market.search(call.body, self._world.clock.now())})

    def _old_list(self, call: Call) -> Answer:
        raise refusal(410, "gone", "This endpoint is no longer available; use /api/v1/instances/.")

    def _show(self, call: Call) -> Answer:
        instance, now = self._world.instances.get(call.id), self._world.clock.now()
        there = instance is not None and instance.alive and is_known(instance, now)
        return as_json({"instances": row(instance, now) if instance is not None and there else None})

    def _destroy(self, call: Call) -> Answer:
        instance = self._existing(call.id)
        if not self._faults.take(Fault.DESTROY_LIES, instance=call.id):
            self._world.destroy(instance)
            if self._faults.take(Fault.DESTROY_CUT, instance=call.id):
                return CUT
        return success(msg="Instance destroyed successfully")

    def _logs(self, call: Call) -> Answer:
        instance = self._world.instances.get(call.id)
        if instance is None or not instance.alive:
            raise Refused(as_json({"error": "invalid_id", "msg": "Invalid instance id."}, 404))
        name = secrets.token_hex(16)
        self._results[name] = (_shown(self._printed(call.id), call.body), RESULT_LATE)
        return success(result_url=f"{self.url}/results/{name}.log", msg="Please wait a few seconds.")

    def _result(self, call: Call) -> Answer:
        """As a storage bucket does: forbidden until it is there."""
        text, late = self._results.get(call.name, ("", 1))
        if call.name in self._results:
            self._results[call.name] = (text, late - 1)
        return as_text("Forbidden", 403) if late > 0 else as_text(text)

    def _user(self, call: Call) -> Answer:
        credit = self._world.credit
        return as_json(
            {
                "id": self._world.user,
                "key_id": 1,
                "email": "operator@example.com",
                "username": "operator",
                "balance": 0.0,  # what was paid in is credit
                "credit": credit,
                "ssh_key": "",
                "sid": "1",
                "api_key": call.key,
            }
        )

    def _charges(self, call: Call) -> Answer:
        days = self._days(call)
        since, until = float(days["gte"]), min(float(days["lte"]), self._world.clock.now())
        entries = [
            entry
            for one in self._world.instances.values()
            if (entry := charge(one.id, one.label, one.bill, since, until)) is not None
        ]
        if call.query.get("latest_first", "true").lower() == "true":
            entries.reverse()
        return as_json(_page(entries, call.query))

    def _days(self, call: Call) -> Mapping[str, Any]:
        days: Mapping[str, Any] = parsed(call.query, "select_filters", {}).get("day", {})
        if not {"gte", "lte"} <= set(days):
            msg = "Must provide both 'day' gte and lte filters for instance charges"
            raise Refused(as_json({"success": False, "msg": msg}, 400))
        return days

    def _existing(self, id: int) -> Instance:
        instance = self._world.instances.get(id)
        if instance is None or not instance.alive or not is_known(instance, self._world.clock.now()):
            raise refusal(404, "no_such_instance", f"Instance {id} not found.")
        return instance


def _page(entries: list[Mapping[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
    limit = min(parsed(query, "limit", CHARGES), MOST_CHARGES)
    start = int(read_token(query["after_token"])["offset"]) if query.get("after_token") else 0
    shown = entries[start : start + limit]
    more = start + limit < len(entries)
    return {
        "success": True,
        "count": len(shown),
        "total": len(entries),
        "next_token": write_token({"offset": start + limit}) if more else None,
        "results": shown,
    }


def _shown(text: str, wanted: Mapping[str, Any]) -> str:
    lines = [line for line in text.splitlines() if str(wanted.get("filter", "")) in line]
    tail = wanted.get("tail")
    return "\n".join(lines if tail is None else lines[-int(tail) :])
