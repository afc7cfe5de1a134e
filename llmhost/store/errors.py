"""Redis's and redis-py's errors in our words.

One table, read from the top; the last rule takes whatever is left. What redis-py puts into its messages
may hold a command's arguments, so questions, answers and passwords: such text is cut, here and in the
traceback.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from redis import exceptions as theirs

from llmhost.errors import StoreError, StoreRefused, StoreUnavailable

__all__ = ["translate_errors"]

#: everything that redis-py raises; four of its classes are no `RedisError`
_FOREIGN = (
    theirs.RedisError,
    theirs.RedisClusterException,
    theirs.ChildDeadlockedError,
    theirs.IncorrectPolicyType,
    OSError,
)

#: characters of somebody else's words that one of our lines can bear
_MAX_QUOTED = 200

#: where redis-py and Redis begin to repeat a command's arguments, and where they end
_ARGUMENTS_BEFORE = "caused error: "
_ARGUMENTS_AFTER = ", with args beginning"

_HINT_ADDRESS = "check that it runs and that `redis` in the configuration is right; see `llmhost doctor`"


@dataclass(frozen=True, slots=True)
class _Rule:
    """An error of one of `kinds`, or an answer with one of Redis's own `codes` in it, becomes `error`."""

    kinds: tuple[type[Exception], ...]
    codes: frozenset[str]
    error: type[StoreError]
    message: str
    hint: str


_RULES = (
    _Rule(
        (theirs.BusyLoadingError,),
        frozenset({"LOADING"}),
        StoreUnavailable,
        "Redis is still loading its data",
        "wait a moment and try again",
    ),
    _Rule(
        (
            theirs.AuthenticationError,
            theirs.AuthorizationError,
            theirs.AuthenticationWrongNumberOfArgsError,
            theirs.ExternalAuthProviderError,
        ),
        frozenset({"NOAUTH", "WRONGPASS"}),
        StoreUnavailable,
        "Redis does not let llmhost in: {said}",
        "set `redis.username` and `redis.password` (better: ${REDIS_PASSWORD}) to what this Redis expects",
    ),
    _Rule(
        (ssl.SSLCertVerificationError,),
        frozenset(),
        StoreUnavailable,
        "the TLS certificate of Redis{at} is not trusted: {said}",
        "set `redis.ca_file` to its authority's certificate, and use the host name that it was made for",
    ),
    _Rule(
        (ssl.SSLError,),
        frozenset(),
        StoreUnavailable,
        "no TLS connection to Redis{at}: {said}",
        "check that this port speaks TLS; `redis.tls` turns it on and off",
    ),
    _Rule(
        (theirs.TimeoutError, TimeoutError),
        frozenset(),
        StoreUnavailable,
        "Redis does not answer in time",
        "check that it is running and reachable; `redis.timeout` says how long llmhost waits",
    ),
    _Rule(
        (theirs.InvalidResponse,),
        frozenset(),
        StoreUnavailable,
        "what answers at the address of Redis does not speak its protocol",
        _HINT_ADDRESS,
    ),
    _Rule(
        (theirs.ClusterDownError, theirs.TryAgainError),
        frozenset({"CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN"}),
        StoreUnavailable,
        "the Redis cluster is not ready",
        "wait until all of its nodes are up",
    ),
    _Rule(
        (),
        frozenset({"BUSY"}),
        StoreUnavailable,
        "Redis is busy with a script",
        "wait a moment; another program's script may have to be ended with SCRIPT KILL",
    ),
    _Rule(
        (theirs.ConnectionError, theirs.ChildDeadlockedError, OSError),
        frozenset(),
        StoreUnavailable,
        "Redis{at} cannot be reached: {said}",
        _HINT_ADDRESS,
    ),
    _Rule(
        (theirs.ReadOnlyError,),
        frozenset({"READONLY"}),
        StoreRefused,
        "Redis is read-only",
        "this is a replica: give the address of the primary",
    ),
    _Rule(
        (theirs.OutOfMemoryError,),
        frozenset({"OOM"}),
        StoreRefused,
        "Redis is out of memory",
        "raise its `maxmemory`, or set its `maxmemory-policy` to volatile-lru, so that old answers make room",
    ),
    _Rule(
        (theirs.NoPermissionError,),
        frozenset({"NOPERM"}),
        StoreRefused,
        "the Redis user lacks a permission: {said}",
        "allow it llmhost's keys and commands; docs/redis.md lists them",
    ),
    _Rule(
        (),
        frozenset({"MISCONF"}),
        StoreRefused,
        "Redis cannot save its data to disk and so takes no writes",
        "free some disk space where Redis runs, and read its log",
    ),
    _Rule(
        (),
        frozenset({"NOREPLICAS"}),
        StoreRefused,
        "Redis has too few replicas to take writes",
        "start its replicas, or lower its `min-replicas-to-write`",
    ),
    _Rule(
        (theirs.ClusterCrossSlotError, theirs.CrossSlotTransactionError),
        frozenset({"CROSSSLOT"}),
        StoreRefused,
        "keys that belong together lie on different shards of Redis",
        "use a database that is not sharded; see docs/redis.md",
    ),
    _Rule(
        (theirs.AskError, theirs.SlotNotCoveredError),
        frozenset({"MOVED", "ASK"}),
        StoreRefused,
        "this Redis is one node of a cluster, and the key lies on another",
        "give an address that serves the whole cluster, such as its proxy",
    ),
    _Rule(
        (),
        frozenset({"WRONGTYPE"}),
        StoreRefused,
        "a key of llmhost holds something else in this Redis",
        "another program uses the same keys: choose another `cache.namespace` or `redis.db`",
    ),
    _Rule(
        _FOREIGN,
        frozenset(),
        StoreRefused,
        "Redis refuses a command: {said}",
        "llmhost needs Redis 6.2 or later and a user that may use it; see `llmhost doctor`",
    ),
)


@contextmanager
def translate_errors() -> Iterator[None]:
    """Around every use of a Redis client, awaits included.

    Raises:
        StoreUnavailable: Redis refuses, hangs, wants a password, or went away.
        StoreRefused: it answers, but will not do this.
    """
    try:
        yield
    except _FOREIGN as error:
        raise _translated(error) from (None if _repeats_arguments(error) else error)


def _translated(error: Exception) -> StoreError:
    root = _root(error)
    codes = _codes(root)
    rule = next(rule for rule in _RULES if isinstance(root, rule.kinds) or rule.codes & codes)
    return rule.error(rule.message.format(said=_said(root), at=_address(error)), hint=rule.hint)


def _root(error: BaseException) -> BaseException:
    """What redis-py has wrapped into its ConnectionError while connecting, with and without `from`."""
    if type(error) is not theirs.ConnectionError:
        return error
    if isinstance(error.__cause__, _FOREIGN):
        return _root(error.__cause__)
    return error.__context__ if isinstance(error.__context__, OSError) else error


def _codes(error: BaseException) -> set[str]:
    """The words in capitals of an answer: a script's error has Redis's own code somewhere inside."""
    if not isinstance(error, theirs.ResponseError):
        return set()
    return set(re.findall(r"\b[A-Z]{3,}\b", _without_arguments(error)))


def _said(error: BaseException) -> str:
    if isinstance(error, ssl.SSLError):
        return (getattr(error, "verify_message", None) or error.reason or "it broke off").rstrip(".")
    if isinstance(error, OSError):
        return _system_words(error)
    return _without_arguments(error)[:_MAX_QUOTED].rstrip(".") or type(error).__name__


def _system_words(error: OSError) -> str:
    """asyncio puts its own words into `strerror`, and several errors into one where a name has several
    addresses; the system's words for the number are better."""
    if isinstance(error, socket.gaierror):
        return error.strerror or "unknown host name"
    number = error.errno or next(iter(re.findall(r"\[Errno (\d+)\]", str(error))), 0)
    return os.strerror(int(number)) if number else "no connection"


def _address(error: Exception) -> str:
    found = re.search(r"connecting to (.+?)\.(?: |$)", str(error))
    return f" at {found[1]}" if found else ""


def _without_arguments(error: BaseException) -> str:
    _, in_pipeline, answer = str(error).partition(_ARGUMENTS_BEFORE)
    text = answer.strip("()',\"") if in_pipeline else str(error)
    return " ".join(text.partition(_ARGUMENTS_AFTER)[0].split())


def _repeats_arguments(error: Exception) -> bool:
    return _ARGUMENTS_BEFORE in str(error) or _ARGUMENTS_AFTER in str(error)
