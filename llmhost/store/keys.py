"""The name of every key that llmhost keeps in Redis. Pure.

Keys of a fleet begin with ``llmhost:{fleet}:`` and have no TTL: a full Redis evicts answers, never these. API
keys belong to no fleet: one gateway may serve several, and a key says who asks and not what is served. Nor do
the pauses of every fleet of an account, and the names of its fleets.
Keys of the cache begin with the namespace of the configuration, which cannot be ``llmhost``.

On a cluster (`sharded`), the part in braces decides which server has a key. All keys of a fleet are on one,
so that what is booked, leased and recorded together changes together; so are the keys of an entry, and the
log of a scope. Elsewhere names have no braces: what is stored there keeps its name.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SLOTS", "FleetKeys", "GatewayKeys", "NamespaceKeys", "pauses_of_all", "rented_fleets"]

#: what a cluster spreads keys over
SLOTS = 16384


def pauses_of_all(provider: str, account: str) -> str:
    """Hash: each `down` of every fleet that an account pays for, by one of its names."""
    return f"llmhost:pauses:{provider}:{account}"


def rented_fleets(provider: str, account: str) -> str:
    """Set: the fleets that were ever bought for with this Redis and an account, by one of its names."""
    return f"llmhost:fleets:{provider}:{account}"


@dataclass(frozen=True, slots=True)
class FleetKeys:
    """The names of the keys of one fleet."""

    fleet: str
    sharded: bool = False

    @property
    def prefix(self) -> str:
        """What all of them begin with, before a colon."""
        return f"llmhost:{{{self.fleet}}}" if self.sharded else f"llmhost:{self.fleet}"

    @property
    def workers(self) -> str:
        """Set of the workers' ids, so that no scan of a cache full of keys is needed."""
        return f"{self.prefix}:workers"

    def worker(self, worker: str) -> str:
        """Hash: the record of one worker."""
        return f"{self.prefix}:worker:{worker}"

    @property
    def machines(self) -> str:
        """Hash: the machines that failed this fleet, each with the reason."""
        return f"{self.prefix}:machines"

    @property
    def scale(self) -> str:
        """Hash: the fleet's lease and what the autoscaler remembers between two steps."""
        return f"{self.prefix}:scale"

    def pauses(self, provider: str) -> str:
        """Hash: each `down` of the fleet since the last `up`, and those that an `up` has lifted. A fleet
        whose provider was changed is two: what is rented stays down."""
        return f"{self.prefix}:pauses:{provider}"

    @property
    def notices(self) -> str:
        """Hash: which notifications were sent, and when, Unix seconds."""
        return f"{self.prefix}:notices"

    @property
    def purchases(self) -> str:
        """Hash: the purchases that were begun a short time ago, on any machine."""
        return f"{self.prefix}:purchases"

    @property
    def weights(self) -> str:
        """Hash: under each model's name, the digest of what a worker was last seen to serve."""
        return f"{self.prefix}:weights"

    @property
    def traffic(self) -> str:
        """Hash: questions, answers and tokens by time."""
        return f"{self.prefix}:traffic"

    @property
    def draining(self) -> str:
        """Set of the workers that get no more questions."""
        return f"{self.prefix}:draining"

    @property
    def waiting(self) -> str:
        """Sorted set: the requests that wait for a slot of any worker."""
        return f"{self.prefix}:waiting"

    @property
    def fronts(self) -> str:
        """Hash: those of them that are next in their process, one of each."""
        return f"{self.prefix}:fronts"

    def load(self, worker: str) -> str:
        """Sorted set: the requests that a worker has in flight."""
        return f"{self.prefix}:load:{worker}"

    def speed(self, worker: str) -> str:
        """Hash: what a worker was measured to deliver."""
        return f"{self.prefix}:speed:{worker}"

    def gpu_speed(self, model: str, gpu: str) -> str:
        """Hash: what workers with this GPU were measured to deliver of this model. It outlives them."""
        return f"{self.prefix}:gpu:{gpu}:{model}"

    def ledger_sums(self, period: str, start: int) -> str:
        """Hash: the sums of one minute, hour or day, which starts at `start` in Unix seconds."""
        return f"{self.prefix}:ledger:{period}:{start}"

    @property
    def ledger_periods(self) -> str:
        """Sorted set: the keys of all sums."""
        return f"{self.prefix}:ledger:periods"

    @property
    def rentals(self) -> str:
        """Hash: when each worker was rented, and its price."""
        return f"{self.prefix}:ledger:rentals"

    @property
    def bills(self) -> str:
        """Hash: what was billed for each worker, as it was last read."""
        return f"{self.prefix}:ledger:bills"

    @property
    def boots(self) -> str:
        """List: how long the last workers took to boot."""
        return f"{self.prefix}:ledger:boots"

    def trust(self, policy: str) -> str:
        """Hash: the labels on the hits of a policy, or of a verifier. Those of one teach nothing about
        another's."""
        return self._of_policy("trust", policy)

    def audits(self, policy: str) -> str:
        """List: the hits of a policy that wait for an audit. The one key that has a TTL."""
        return self._of_policy("audits", policy)

    @property
    def judge(self) -> str:
        """Hash: the last measurement of the fleet's judge."""
        return f"{self.prefix}:judge"

    @property
    def condenser(self) -> str:
        """Hash: the last measurement of the fleet's condenser."""
        return f"{self.prefix}:condenser"

    @property
    def trial(self) -> str:
        """What `doctor` writes and deletes; names of several keys begin with it."""
        return f"{self.prefix}:trial"

    def _of_policy(self, what: str, policy: str) -> str:
        return f"{self.prefix}:{what}" + ("" if policy == "verified" else f":{policy}")


class GatewayKeys:
    """The names of the keys that hold API keys. A fleet's name has no ``_``, so that they are no fleet's."""

    #: Set of the ids of all API keys
    all = "llmhost:gateway_keys"

    @staticmethod
    def key(id: str) -> str:
        """Hash: one API key, its limits, and what it used. All in one, so that one script reads it all."""
        return f"llmhost:gateway_key:{id}"


@dataclass(frozen=True, slots=True)
class NamespaceKeys:
    """The names of the keys of one namespace of the cache. An `entry` is 32 hex digits: cache/keys.py."""

    namespace: str
    sharded: bool = False

    def response(self, entry: str) -> str:
        """String: the question and its answer."""
        return self._name("response", entry)

    def metadata(self, entry: str) -> str:
        """Hash: what was counted of the entry since it was stored, once something was."""
        return self._name("metadata", entry)

    def embedding(self, entry: str) -> str:
        """Hash: the question as an older llmhost stored it, beside the answer."""
        return self._name("embedding", entry)

    @property
    def recent(self) -> str:
        """Sorted set: the entries by when they were last used, where their number is limited."""
        return self._name("recent", "limits") if self.sharded else f"{self.namespace}:recent"

    @property
    def volume(self) -> str:
        """Hash: how many entries were stored lately, and their bytes, where they are limited."""
        return self._name("volume", "limits") if self.sharded else f"{self.namespace}:volume"

    def flight(self, entry: str) -> str:
        return self._name("flight", entry)

    @property
    def layout(self) -> str:
        """Hash: how the entries are kept, `index` the kind of index in force, `building` the one that
        `cache reindex` moves them to."""
        return f"{self.namespace}:layout"

    def index(self, embedder: str, scope: str) -> str:
        """String: the log of the flat index as an older llmhost wrote it."""
        return self._name(f"index:{embedder}", scope)

    def flat(self, embedder: str, scope: str) -> str:
        """String: the log of the flat index."""
        return self._name(f"flat:{embedder}", scope)

    def vectors(self, embedder: str, scope: str, shard: int = 0) -> str:
        """Vector set: one of those that the vectors of a scope are spread over."""
        return self._name(f"vectors:{embedder}", f"{scope}.{shard}" if shard else scope)

    def vector_log(self, embedder: str, scope: str) -> str:
        """String: the log of a scope that is too small for a vector set."""
        return self._name(f"vector_log:{embedder}", scope)

    def vector(self, embedder: str, entry: str) -> str:
        """Hash: what the query engine indexes of an entry."""
        return self._name(f"vector:{embedder}", entry)

    def vector_prefix(self, embedder: str) -> str:
        """What the keys begin with that the query engine indexes."""
        return f"{self.namespace}:vector:{embedder}:"

    def _name(self, kind: str, rest: str) -> str:
        """Keys of the same `rest` are on one server."""
        return f"{self.namespace}:{kind}:{{{rest}}}" if self.sharded else f"{self.namespace}:{kind}:{rest}"

    @staticmethod
    def id_in(key: str) -> str:
        """The entry or the scope that is the end of a key's name."""
        return key.rpartition(":")[2].strip("{}").partition(".")[0]

    def family(self, name: str) -> str:
        """What the keys of one family begin with: ``family("flat")``."""
        return f"{self.namespace}:{name}:"

    @property
    def any_index(self) -> str:
        """Pattern that matches the keys of every kind of index, and few others."""
        return f"{self.namespace}:[fiv]*"

    def judged(self, pair: str) -> str:
        return f"{self.namespace}:judged:{pair}"

    def condensed(self, conversation: str) -> str:
        """String: the question that the last turn of a conversation was condensed to, or nothing."""
        return f"{self.namespace}:condensed:{conversation}"

    def served(self, fleet: str, tenant: str, user: str = "") -> str:
        """Sorted set: the entries that were served to other wordings of a tenant, or of one of its users, by
        when, Unix seconds. No tenant's name has a control character, so that none is another's user."""
        return f"{self.namespace}:served:{fleet}:{tenant}" + (f"\x1f{user}" if user else "")

    def everything(self) -> tuple[str, ...]:
        """Patterns that match every key of this namespace and no other key."""
        kinds = (
            "embedding",
            "response",
            "metadata",
            "flight",
            "index",
            "flat",
            "vectors",
            "vector_log",
            "vector",
            "judged",
            "condensed",
            "served",
        )
        return (*(f"{self.namespace}:{kind}:*" for kind in kinds), self.layout, self.recent, self.volume)
