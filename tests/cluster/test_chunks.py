import json

import pytest

from bdd_tf.cluster import chunks
from bdd_tf.cluster.chunks import DONE, PLAN, STATE, Entry, Plan, output_folder
from bdd_tf.cluster.store import LocalStore
from bdd_tf.errors import BddError


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "output")


def entries(count, modified=1):
    return [Entry(f"a/{i}.jpg", 100 + i, modified) for i in range(count)]


def complete(store, plan, *numbers):
    """What a job does at the end of chunks."""
    for number in numbers:
        store.write(f"{output_folder(number)}/date=2026-01-01/rows.parquet", b"rows")
        plan.complete(number, {"images": plan.counts[number]})


def in_plan(plan):
    return [entry for number in sorted(plan.counts) for entry in plan.entries(number)]


def test_each_entry_is_in_one_chunk(store):
    plan = Plan(store)
    planned = plan.make(entries(10), 4)
    assert plan.counts == {0: 4, 1: 4, 2: 2}
    assert planned.images == 10
    assert in_plan(plan) == entries(10)
    assert plan.pending() == [0, 1, 2]


def test_entries_that_are_listed_twice_count_once(store):
    plan = Plan(store)
    assert plan.make(entries(3) + entries(5), 10).repeated == 3
    assert in_plan(plan) == entries(5)


def test_a_resumed_plan_skips_complete_chunks(store):
    first = Plan(store)
    first.make(entries(10), 4)
    complete(store, first, 0, 2)
    second = Plan(store)
    planned = second.make(reversed(entries(10)), 7)  # neither the order nor --chunk matters
    assert planned.complete == (0, 2)
    assert planned.outdated == ()
    assert second.pending() == [1]
    assert second.facts() == [{"images": 4}, {"images": 2}]


@pytest.mark.parametrize(
    "change", [{"size": 7}, {"modified": 2}, {"value": "b"}], ids=lambda change: next(iter(change))
)
def test_a_chunk_with_a_changed_file_is_scored_again_and_its_rows_are_removed(store, tmp_path, change):
    first = Plan(store)
    first.make(entries(6), 2)
    complete(store, first, 0, 1, 2)
    now = entries(6)
    now[3] = now[3]._replace(**change)
    second = Plan(store)
    planned = second.make(now, 2)
    assert planned.outdated == (1,)
    assert planned.complete == (0, 2)
    assert second.pending() == [3]  # a new number: nothing refers to the old rows
    assert sorted(in_plan(second)) == sorted(now)
    assert not (tmp_path / "output" / output_folder(1)).exists()
    assert (tmp_path / "output" / output_folder(0)).exists()


def test_removed_and_new_files_change_only_their_chunks(store):
    first = Plan(store)
    first.make(entries(6), 2)
    complete(store, first, 0, 1, 2)
    second = Plan(store)
    planned = second.make([*entries(5), Entry("new.jpg", 1, 1)], 2)
    assert planned.outdated == (2,)
    assert planned.complete == (0, 1)
    assert second.counts == {0: 2, 1: 2, 3: 2}
    assert sorted(in_plan(second)) == sorted([*entries(5), Entry("new.jpg", 1, 1)])


def test_a_plan_that_was_not_finished_is_made_again(store):
    first = Plan(store)
    first.make(entries(6), 2)
    complete(store, first, 0)
    store.remove(PLAN)  # a driver that was killed while planning leaves no such file
    second = Plan(store)
    assert second.make(entries(6), 3).complete == ()
    assert second.counts == {0: 3, 1: 3}
    assert store.names(DONE) == []


def test_an_empty_listing_removes_nothing(store):
    first = Plan(store)
    first.make(entries(4), 2)
    complete(store, first, 0)
    assert Plan(store).make([], 2).images == 0  # the folder was not mounted
    assert Plan(store).make(entries(4), 2).complete == (0,)
    assert store.names(output_folder(0))


def test_rows_without_a_mark_are_not_complete(store):
    first = Plan(store)
    first.make(entries(4), 2)
    store.write(f"{output_folder(0)}/date=2026-01-01/half.parquet", b"ha")
    second = Plan(store)
    second.make(entries(4), 2)
    assert second.pending() == [0, 1]


def test_names_that_are_no_text_survive(store):
    odd = [Entry("caf\udce9.jpg", 1, 1), Entry("line\nfeed.jpg", 1, 1), Entry("héllo \u2028.jpg", None, None)]
    plan = Plan(store)
    plan.make(odd, 10)
    assert in_plan(plan) == odd
    assert Plan(store).make(odd, 10).outdated == ()


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"chunks": {"a": 1}}', b"\xff"])
def test_a_damaged_plan_is_one_sentence(store, content):
    store.write(PLAN, content)
    with pytest.raises(BddError, match="damaged; give another --output"):
        Plan(store).make(entries(1), 1)


def test_a_damaged_chunk_is_one_sentence(store):
    plan = Plan(store)
    plan.make(entries(2), 1)
    store.write(f"{chunks.CHUNKS}/000001.jsonl.gz", b"\x1f\x8bnonsense")
    with pytest.raises(BddError, match="damaged"):
        list(plan.entries(1))


def test_memory_grows_by_less_than_a_kilobyte_an_image(store):
    import tracemalloc

    tracemalloc.start()
    try:
        for _ in range(2):  # the second time with a stored plan
            Plan(store).make((Entry(f"folder/{i}.jpg", i, i) for i in range(20_000)), 1000)
            used, most = tracemalloc.get_traced_memory()
            assert most < 20_000 * 1000
            assert used < 1_000_000
            tracemalloc.reset_peak()
    finally:
        tracemalloc.stop()


def test_two_jobs_do_not_write_to_one_folder(store, tmp_path):
    other = LocalStore(tmp_path / "output")
    with store.locked(), pytest.raises(BddError, match="another `bdd score`"), other.locked():
        pass
    with other.locked():
        pass


def test_the_store_hides_its_state_from_readers():
    assert STATE.startswith("_")
    assert all(name.startswith(STATE) for name in (chunks.JOB, PLAN, DONE, chunks.STAGING))


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BddError, match=r"cannot be written: .*; give an --output folder"):
        LocalStore(tmp_path / "file").write("x/y", json.dumps(1).encode())
