"""Which worker a question goes to, as a rule."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from llmhost.engines.routing import SPREAD, choose, preference

NAMES = st.lists(st.text("abcdef0123456789-", min_size=1, max_size=8), min_size=1, max_size=8, unique=True)
CONVERSATIONS = [f"conversation {number}" for number in range(200)]


@given(workers=NAMES, conversation=st.text())
def test_the_order_does_not_depend_on_how_the_workers_are_listed(
    workers: list[str], conversation: str
) -> None:
    assert preference(conversation, workers) == preference(conversation, sorted(workers))


@given(workers=NAMES, new=st.text("ghi", min_size=1, max_size=8))
def test_where_a_worker_joins_or_leaves_only_its_own_conversations_move(workers: list[str], new: str) -> None:
    for conversation in CONVERSATIONS[:20]:
        with_it, without = preference(conversation, [*workers, new]), preference(conversation, workers)
        assert tuple(name for name in with_it if name != new) == without


def test_each_of_several_workers_has_its_share_of_conversations() -> None:
    first = [preference(conversation, ["a", "b", "c", "d"])[0] for conversation in CONVERSATIONS]
    assert all(30 <= first.count(worker) <= 70 for worker in "abcd")


def test_a_conversation_goes_to_the_first_worker_that_has_a_slot() -> None:
    assert choose([3, 0, 0], [0, 0, 0], [0, 0, 0], 4, affine=True, queues=True) == 0
    assert choose([4, 3, 0], [0, 0, 0], [0, 0, 0], 4, affine=True, queues=True) == 1
    assert choose([4, 4, 4], [0, 0, 0], [0, 0, 0], 4, affine=True, queues=True) is None


def test_beyond_its_slots_a_worker_is_left_by_its_conversations_when_it_has_more_than_the_others() -> None:
    assert choose([4, 4], [0, 0], [0, 0], 4, affine=True, queues=False) == 0
    assert choose([7, 3], [0, 0], [0, 0], 4, affine=True, queues=False) == 1


def test_a_single_question_goes_to_the_least_busy_worker_of_several_to_the_one_asked_longest_ago() -> None:
    assert choose([2, 1, 1], [0, 0, 0], [1, 3, 2], 4, affine=False, queues=True) == 2
    assert choose([5, 4], [0, 0], [0, 0], 4, affine=False, queues=False) == 1
    assert choose([4, 4], [0, 0], [0, 0], 4, affine=False, queues=True) is None


def test_a_single_question_goes_to_the_worker_with_the_fewest_tokens_that_has_a_slot() -> None:
    assert choose([1, 2], [9000, 800], [0, 0], 4, affine=False, queues=True) == 1
    assert choose([1, 4], [9000, 800], [0, 0], 4, affine=False, queues=True) == 0
    assert choose([2, 1], [800, 800], [0, 0], 4, affine=False, queues=True) == 1


@given(
    loads=st.lists(st.integers(0, 20), min_size=1, max_size=8),
    slots=st.integers(1, 8),
    affine=st.booleans(),
    queues=st.booleans(),
)
def test_no_worker_is_overloaded_by_choice(loads: list[int], slots: int, affine: bool, queues: bool) -> None:
    nothing = [0] * len(loads)
    place = choose(loads, nothing, nothing, slots, affine=affine, queues=queues)
    if place is None:
        assert queues
        assert min(loads) >= slots
        return
    assume(not queues or loads[place] < slots)
    assert loads[place] < max(slots, SPREAD * (sum(loads) + 1) / len(loads) + 1)
