"""What the programs that try a Python client share."""

import os
import warnings
from collections.abc import Callable

warnings.simplefilter("ignore")

#: the gateway, without a path
URL = os.environ["URL"]
HELLO = "Hello, Wörld!"


def trial(what: str, act: Callable[[], object], wanted: object = True) -> None:
    """Does it, and prints whether that gave what is wanted."""
    try:
        got = act()
    except Exception as error:
        got = f"{type(error).__name__}: {error}"
    said = " ".join(str(got).split())[:200]
    print(f"ok\t{what}" if got == wanted else f"failed\t{what}: {said}", flush=True)


def error_of(act: Callable[[], object]) -> str:
    """The name of the error that this raises."""
    try:
        act()
    except Exception as error:
        return type(error).__name__
    return "none"
