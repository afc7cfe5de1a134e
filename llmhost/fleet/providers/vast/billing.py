"""vast.ai's bill and account, read. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from llmhost.errors import ProviderError
from llmhost.fleet.models import Account, Charge
from llmhost.fleet.providers.vast.fields import Fields, Row, as_row
from llmhost.fleet.providers.vast.labels import order_in
from llmhost.fleet.providers.vast.rows import worker_id

__all__ = ["read_account", "read_charges"]

_SOURCE = re.compile(r"instance-([1-9]\d{0,17})")


def read_charges(rows: Sequence[object], fleet: str) -> tuple[Charge, ...]:
    """What was billed for this fleet's instances, which are known by their label. Raises ProviderError."""
    charges = (_charge(as_row(row, "a charge"), fleet) for row in rows)
    return tuple(charge for charge in charges if charge is not None)


def read_account(answer: object) -> Account:
    """The credit, or the balance where there is no word of credit; either may be below 0.

    Raises:
        ProviderError: neither is a number.
    """
    fields = Fields(as_row(answer, "the account"), "the account")
    credit = fields.signed("credit")
    credit = fields.signed("balance") if credit is None else credit
    if credit is None:
        raise fields.wrong("credit", "a number")
    return Account(credit)


def _charge(row: Row, fleet: str) -> Charge | None:
    source = Fields(row, "a charge").text("source") or ""
    fields = Fields(row, f"the charge for {source[:40]!r}")
    label = Fields(fields.part("metadata") or {}, fields.what).text("label")
    if order_in(label, fleet) is None:
        return None
    match = _SOURCE.fullmatch(source)
    if match is None:
        raise ProviderError(f"vast.ai's answer cannot be read: {fields.what} names no instance")
    usd = fields.signed("amount")  # what is given back is below 0
    if usd is None:
        raise fields.wrong("amount", "a number")
    return Charge(worker_id(int(match.group(1))), usd, fields.needed("start"), fields.needed("end"))
