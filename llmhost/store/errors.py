"""Redis's and redis-py's errors as llmhost's own.

Two tables, read from the top; the last rule matches everything else. What redis-py puts into its messages
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

__all__ = [
    "LACKS_PERMISSION",
    "NoCluster",
    "SpeaksNoTls",
    "WantsCertificate",
    "WantsTls",
    "translate_errors",
    "where_allowed",
]

#: how the message begins where an ACL of Redis refuses a command, a key or a channel
LACKS_PERMISSION = "the Redis user lacks a permission"

#: everything that redis-py raises; four of its classes are no `RedisError`
_FOREIGN = (
    theirs.RedisError,
    theirs.RedisClusterException,
    theirs.ChildDeadlockedError,
    theirs.IncorrectPolicyType,
    OSError,
)

#: characters of a foreign message that one of our lines can bear
_MAX_QUOTED = 200

#: where redis-py and Redis begin to repeat a command's arguments, and where they end
_ARGUMENTS_BEFORE = "caused error: "
_ARGUMENTS_AFTER = ", with args beginning"

_HINT_ADDRESS = "check that it runs and that `redis` in the configuration is right; see `llmhost doctor`"


class NoCluster(theirs.ResponseError):
    """The configuration wants a cluster; the server is none, or does not show its nodes."""


class SpeaksNoTls(theirs.ConnectionError):
    """The configuration wants TLS; the port answers in plain text."""


class WantsTls(theirs.ConnectionError):
    """The configuration wants plain text; the port answers a TLS handshake."""


class WantsCertificate(theirs.ConnectionError):
    """The port ends a TLS connection without a certificate of the client."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """Matches an error of one of `kinds`, and an answer with one of Redis's own `codes` in it."""

    message: str
    hint: str
    kinds: tuple[type[Exception], ...] = ()
    codes: frozenset[str] = frozenset()


_UNAVAILABLE = (
    _Rule(
        "Redis is still loading its data",
        "wait a moment and try again",
        kinds=(theirs.BusyLoadingError,),
        codes=frozenset({"LOADING"}),
    ),
    _Rule(
        "Redis authentication failed{at}: {reason}",
        "set `redis.username` and `redis.password` (better: ${REDIS_PASSWORD}) to what this Redis expects",
        kinds=(
            theirs.AuthenticationError,
            theirs.AuthorizationError,
            theirs.AuthenticationWrongNumberOfArgsError,
            theirs.ExternalAuthProviderError,
        ),
        codes=frozenset({"NOAUTH", "WRONGPASS"}),
    ),
    _Rule(
        "the TLS certificate of Redis{at} is not trusted: {reason}",
        "set `redis.ca_file` to its authority's certificate, and use the host name that it was made for",
        kinds=(ssl.SSLCertVerificationError,),
    ),
    _Rule(
        "no TLS connection to Redis{at}: {reason}",
        "check that this port speaks TLS; `redis.tls` turns it on and off",
        kinds=(ssl.SSLError,),
    ),
    _Rule(
        "Redis{at} speaks no TLS, and the configuration asks for it",
        "set `redis.tls: false`, and begin `redis.url` with redis://; or give the port that speaks TLS",
        kinds=(SpeaksNoTls,),
    ),
    _Rule(
        "Redis{at} wants TLS, and the configuration does not ask for it",
        "set `redis.tls: true`, or begin `redis.url` with rediss://",
        kinds=(WantsTls,),
    ),
    _Rule(
        "Redis{at} ends TLS connections without a certificate of the client",
        "set `redis.cert_file` and `redis.key_file`",
        kinds=(WantsCertificate,),
    ),
    _Rule(
        "Redis does not answer in time",
        "check that it is running and reachable; `redis.timeout` says how long llmhost waits",
        kinds=(theirs.TimeoutError, TimeoutError),
    ),
    _Rule(
        "what answers at the address of Redis does not speak its protocol",
        _HINT_ADDRESS,
        kinds=(theirs.InvalidResponse,),
    ),
    _Rule(
        "the Redis cluster is not ready",
        "wait until all of its nodes are up",
        kinds=(theirs.ClusterDownError, theirs.TryAgainError),
        codes=frozenset({"CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN"}),
    ),
    _Rule(
        "Redis is busy with a script",
        "wait a moment; another program's script may have to be ended with SCRIPT KILL",
        codes=frozenset({"BUSY"}),
    ),
    _Rule(
        "Redis{at} cannot be reached: {reason}",
        _HINT_ADDRESS,
        kinds=(theirs.ConnectionError, theirs.ChildDeadlockedError, OSError),
    ),
)

_REFUSED = (
    _Rule(
        "Redis is read-only",
        "this is a replica: give the address of the primary",
        kinds=(theirs.ReadOnlyError,),
        codes=frozenset({"READONLY"}),
    ),
    _Rule(
        "Redis is out of memory",
        "raise its `maxmemory`, or set its `maxmemory-policy` to volatile-lru, so that old answers make room",
        kinds=(theirs.OutOfMemoryError,),
        codes=frozenset({"OOM"}),
    ),
    _Rule(
        f"{LACKS_PERMISSION}: {{reason}}",
        "allow it llmhost's keys and commands; docs/redis.md lists them",
        kinds=(theirs.NoPermissionError,),
        codes=frozenset({"NOPERM"}),
    ),
    _Rule(
        "Redis cannot save its data to disk and so takes no writes",
        "free some disk space where Redis runs, and read its log",
        codes=frozenset({"MISCONF"}),
    ),
    _Rule(
        "Redis has too few replicas to take writes",
        "start its replicas, or lower its `min-replicas-to-write`",
        codes=frozenset({"NOREPLICAS"}),
    ),
    _Rule(
        "keys that belong together are on different shards of Redis",
        "set `redis.sharded: true`, or `redis.cluster: true` for a Redis Cluster; see docs/redis.md",
        kinds=(theirs.ClusterCrossSlotError, theirs.CrossSlotTransactionError),
        codes=frozenset({"CROSSSLOT"}),
    ),
    _Rule(
        "this Redis is one node of a cluster, and the key is on another",
        "set `redis.cluster: true`",
        kinds=(theirs.AskError, theirs.SlotNotCoveredError),
        codes=frozenset({"MOVED", "ASK"}),
    ),
    _Rule(
        "this Redis is no cluster, and `redis.cluster` is set",
        "set `redis.cluster: false`; `redis.sharded: true` if one address stands for several shards",
        kinds=(NoCluster,),
    ),
    _Rule(
        "a key of llmhost holds something else in this Redis",
        "another program uses the same keys: choose another `cache.namespace` or `redis.db`",
        codes=frozenset({"WRONGTYPE"}),
    ),
    _Rule(
        "Redis refuses a command: {reason}",
        "llmhost needs Redis 6.2 or later and a user that may use it; see `llmhost doctor`",
        kinds=_FOREIGN,
    ),
)


@contextmanager
def where_allowed() -> Iterator[None]:
    """A user of Redis with the rights for one fleet alone does without what is of every fleet."""
    try:
        yield
    except StoreError as error:
        if not error.message.startswith(LACKS_PERMISSION):
            raise


@contextmanager
def translate_errors() -> Iterator[None]:
    """Around every use of a Redis client, awaits included.

    Raises:
        StoreUnavailable: Redis refuses, hangs, wants a password, or went away.
        StoreRefused: it answers, but rejects the command.
    """
    try:
        yield
    except _FOREIGN as error:
        raise _translated(error) from (None if _repeats_arguments(error) else error)


def _translated(error: Exception) -> StoreError:
    root = _root(error)
    text = _without_arguments(root)
    # The words in capitals of an answer: a script's error has Redis's own code somewhere inside.
    codes = set(re.findall(r"\b[A-Z]{3,}\b", text)) if isinstance(root, theirs.ResponseError) else set()
    rules = (*_UNAVAILABLE, *_REFUSED)
    rule = next(rule for rule in rules if isinstance(root, rule.kinds) or rule.codes & codes)
    if isinstance(root, ssl.SSLError):
        reason = getattr(root, "verify_message", None) or root.reason or "it broke off"
    elif isinstance(root, OSError):
        reason = _system_message(root)
    else:
        reason = text[:_MAX_QUOTED] or type(root).__name__
    found = re.search(r"connecting to (.+?)\.(?: |$)", str(error))
    at = f" at {found[1]}" if found else ""
    kind = StoreUnavailable if rule in _UNAVAILABLE else StoreRefused
    return kind(rule.message.format(reason=reason.rstrip("."), at=at), hint=rule.hint)


def _root(error: BaseException) -> BaseException:
    """What redis-py has wrapped into its ConnectionError while connecting, with and without `from`."""
    if type(error) is not theirs.ConnectionError:
        return error
    if isinstance(error.__cause__, _FOREIGN):
        return _root(error.__cause__)
    return error.__context__ if isinstance(error.__context__, OSError) else error


def _system_message(error: OSError) -> str:
    """asyncio puts its own text into `strerror`, and several errors into one where a name has several
    addresses; the system's message for the number is better."""
    if isinstance(error, socket.gaierror):
        return error.strerror or "unknown host name"
    number = error.errno or next(iter(re.findall(r"\[Errno (\d+)\]", str(error))), 0)
    return os.strerror(int(number)) if number else "no connection"


def _without_arguments(error: BaseException) -> str:
    _, in_pipeline, answer = str(error).partition(_ARGUMENTS_BEFORE)
    text = answer.strip("()',\"") if in_pipeline else str(error)
    return " ".join(text.partition(_ARGUMENTS_AFTER)[0].split())


def _repeats_arguments(error: Exception) -> bool:
    return _ARGUMENTS_BEFORE in str(error) or _ARGUMENTS_AFTER in str(error)
