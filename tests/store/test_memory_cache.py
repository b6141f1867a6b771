from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import memory_cache
from store.memory_cache import MemoryCache
from tests.store.damage import unhurried

BUDGET = 20
KEYS = st.integers(0, 5)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, st.integers(0, BUDGET + 5)),
        st.tuples(st.sampled_from(["get", "drop"]), KEYS, st.just(0)),
    ),
    max_size=60,
)


def step_model(model: OrderedDict[int, int], verb: str, key: int, size: int) -> None:
    if verb == "get" and key in model:
        model.move_to_end(key)
    elif verb == "drop" or (verb == "put" and size > BUDGET):
        model.pop(key, None)
    elif verb == "put":
        model.pop(key, None)
        model[key] = size
        while sum(model.values()) > BUDGET:
            model.popitem(last=False)


@unhurried
@given(STEPS)
def test_it_keeps_what_a_plain_model_keeps(steps: list[tuple[str, int, int]]) -> None:
    cache: MemoryCache[int, str] = MemoryCache(BUDGET)
    model: OrderedDict[int, int] = OrderedDict()
    for verb, key, size in steps:
        if verb == "put":
            cache.put(key, f"{key}: {size}", size)
        elif verb == "drop":
            cache.drop(key)
        else:
            expected = f"{key}: {model[key]}" if key in model else None
            assert cache.get(key) == expected
        step_model(model, verb, key, size)
        assert cache.used_bytes == sum(model.values()) <= BUDGET
        assert len(cache) == len(model)
    kept = {key for key in range(6) if cache.get(key) is not None}
    assert kept == model.keys()


def test_a_value_larger_than_the_budget_replaces_nothing_but_its_own_key() -> None:
    cache: MemoryCache[str, str] = MemoryCache(BUDGET)
    cache.put("small", "kept", 3)
    cache.put("grown", "old", 3)
    cache.put("grown", "new", BUDGET + 1)
    assert cache.get("small") == "kept"
    assert cache.get("grown") is None
    assert cache.used_bytes == 3


def test_the_sum_stays_right_under_many_threads() -> None:
    cache: MemoryCache[int, int] = MemoryCache(100)

    def work(seed: int) -> None:
        for number in range(400):
            cache.put((seed * number) % 31, number, number % 17)
            cache.get(number % 31)
            cache.drop((number + seed) % 31)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(1, 9)))
    assert cache.used_bytes <= 100
    for key in range(31):
        cache.drop(key)
    assert (cache.used_bytes, len(cache)) == (0, 0)


def test_processes_side_by_side_have_parts_of_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_cache, "_parts", 1)
    for processes, kept in ((1, 20), (2, 10), (4, 5), (50, 5)):
        memory_cache.share_memory(processes)
        cache: MemoryCache[int, None] = MemoryCache(BUDGET)
        for number in range(BUDGET):
            cache.put(number, None, 1)
        assert cache.used_bytes == kept
