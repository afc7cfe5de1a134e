"""What can go wrong at vast.ai, each thing switched on by a test."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    # A purchase. "Executed" means that the instance exists and is paid for.
    CREATE_SILENT = "create: executed, the reply never comes"
    CREATE_CUT = "create: executed, the connection is closed without a reply"
    CREATE_TWICE = "create: executed twice for one request, the reply names the first"
    CREATE_GARBAGE = "create: executed, the reply is no JSON"
    CREATE_NO_ID = "create: executed, the reply says success and names no contract"
    CREATE_ERROR_BUT_BOUGHT = "create: executed, the reply is an error with a new_contract"
    CREATE_GONE_BUT_BOUGHT = "create: executed, the reply is that the ask is gone, and names no contract"
    OFFER_GONE = "create: the ask vanishes just before; 404/3603"
    OFFER_TAKEN = "create: somebody else takes the ask just before; 410/3907"
    CREATE_NAMES = "create: refused, and the reply names the instance `value`, which is another purchase's"
    SPEND_RATE = "create: refused because a new account spends too fast"

    # The list.
    LIST_SHORT = "list: a row is missing, though total_instances counts it"
    LIST_NO_TOKEN = "list: a page has no next_token, though there are more"
    LIST_LOOPS = "list: a page's next_token leads to the same page"
    LIST_ARRAY = "list: a JSON array instead of an object"
    LIST_NULL = "list: instances is null"
    LIST_ODD_ROWS = "list: rows that are no objects"
    LIST_NO_ID = "list: a row without id"
    LIST_EMPTY = "list: nothing, and nothing is counted, though there is something"
    LIST_REFUSED = "list: success is false, and nothing is shown"

    # Any endpoint; `endpoint` narrows it.
    SILENT = "not executed, the reply never comes"
    CUT = "not executed, the connection is closed without a reply"
    SLOW = "executed after `value` seconds"
    GARBAGE = "not executed, 200 with a page that is no JSON"
    SERVER_ERROR = "not executed, 500"
    UNAVAILABLE = "not executed, 503"
    TOO_MANY = "not executed, 429, with Retry-After if `value` is given"
    QUOTA = "not executed, 429 search_quota_exceeded"

    # Giving back.
    DESTROY_LIES = "destroy: says success, the instance lives on"
    DESTROY_CUT = "destroy: executed, the connection is closed without a reply"

    # The life of an instance; `value` is seconds after running (0 if not given).
    STUCK = "stays in loading for ever"
    BOOT_ERROR = "never starts; status_msg says OCI runtime create failed"
    EXITS = "exits after running"
    OFFLINE = "its host goes offline after running"
    OUTBID = "somebody bids more, after running"

    # What the rows of an instance say.
    NULL_START = "start_date is null"
    HIDDEN_ENV = "extra_env is empty"
    NO_PORTS = "ports never appear"
    PORT_CLOSED = "ports are mapped to one where nothing listens"
    LISTED_LATE = "the list shows it `value` seconds after its purchase"
    SHOWN_LATE = "nothing shows it, not even its number, before `value` seconds after its purchase"
    DEARER = "it costs `value` times what its offer said"


CREATE_EXECUTED = (
    Fault.CREATE_SILENT,
    Fault.CREATE_CUT,
    Fault.CREATE_TWICE,
    Fault.CREATE_GARBAGE,
    Fault.CREATE_NO_ID,
    Fault.CREATE_ERROR_BUT_BOUGHT,
    Fault.CREATE_GONE_BUT_BOUGHT,
)
CREATE_REFUSED = (Fault.OFFER_GONE, Fault.OFFER_TAKEN, Fault.CREATE_NAMES, Fault.SPEND_RATE)
LIST = (
    Fault.LIST_SHORT,
    Fault.LIST_NO_TOKEN,
    Fault.LIST_LOOPS,
    Fault.LIST_ARRAY,
    Fault.LIST_NULL,
    Fault.LIST_ODD_ROWS,
    Fault.LIST_NO_ID,
    Fault.LIST_EMPTY,
    Fault.LIST_REFUSED,
)
ANYWHERE = (
    Fault.SLOW,
    Fault.SILENT,
    Fault.CUT,
    Fault.GARBAGE,
    Fault.SERVER_ERROR,
    Fault.UNAVAILABLE,
    Fault.TOO_MANY,
    Fault.QUOTA,
)
#: What befalls one instance: decided at its purchase, or at once where an instance is named.
AFFLICTIONS = (
    Fault.STUCK,
    Fault.BOOT_ERROR,
    Fault.EXITS,
    Fault.OFFLINE,
    Fault.OUTBID,
    Fault.NULL_START,
    Fault.HIDDEN_ENV,
    Fault.NO_PORTS,
    Fault.PORT_CLOSED,
    Fault.LISTED_LATE,
    Fault.SHOWN_LATE,
    Fault.DEARER,
)


@dataclass(slots=True)
class Armed:
    """A fault that waits for its turn: `times` more (None: for ever), at every `every`-th call that fits."""

    fault: Fault
    times: int | None = 1
    offer: int | None = None
    instance: int | None = None
    endpoint: str | None = None
    every: int = 1
    value: float | None = None
    seen: int = 0

    def fits(self, offer: int | None, instance: int | None, endpoint: str | None) -> bool:
        narrowed = ((self.offer, offer), (self.instance, instance), (self.endpoint, endpoint))
        return all(wanted is None or wanted == actual for wanted, actual in narrowed)

    def strikes(self) -> bool:
        self.seen += 1
        return self.seen % self.every == 0


class Faults:
    def __init__(self) -> None:
        self.armed: list[Armed] = []

    def arm(self, fault: Armed) -> None:
        self.armed.append(fault)

    def take(
        self,
        *faults: Fault,
        offer: int | None = None,
        instance: int | None = None,
        endpoint: str | None = None,
    ) -> Armed | None:
        """The first of `faults` that strikes here, used up by once."""
        for armed in self.armed:
            if armed.fault in faults and armed.fits(offer, instance, endpoint) and armed.strikes():
                return self._used(armed)
        return None

    def _used(self, armed: Armed) -> Armed:
        if armed.times is not None:
            armed.times -= 1
            if armed.times == 0:
                self.armed.remove(armed)
        return armed
