"""Shards searched by workers give what one process gives, to the bit."""

from importlib.util import find_spec

import numpy as np
import pytest
from reference.toy_index import write_rows

from sidestep.audit import on_ray as spreading
from sidestep.audit.index import open_index
from sidestep.audit.search import merged
from sidestep.errors import BadRecords

pytest.importorskip("pyarrow")


@pytest.fixture
def index(tmp_path, monkeypatch):
    """500 rows in shards of 7, many of them equal."""
    monkeypatch.setattr(spreading, "SHARDS", 16)
    chance = np.random.default_rng(0)
    rows = chance.standard_normal((500, 16))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    rows[chance.permutation(500)[:100]] = rows[0]
    write_rows(tmp_path / "index", rows, 7)
    return open_index(tmp_path / "index")


def queries(index):
    rows = np.concatenate([b.rows for b in index.rows()])
    return rows[[0, 3, 250, 499]].astype(np.float32)


def test_units_hold_every_row_once(index):
    made = spreading.units(index)
    assert [u.first for u in made] == np.cumsum([0, *(u.rows for u in made)]).tolist()[:-1]
    assert sum(u.rows for u in made) == 500
    every = np.concatenate([b.rows for u in made for b in index.rows(u.part)])
    np.testing.assert_array_equal(every, np.concatenate([b.rows for b in index.rows()]))


def test_units_in_any_order_give_the_answer_of_one_process(index):
    given, made = queries(index), spreading.units(index)
    whole = index.search(given, 120)  # more than a unit of 16 shards has
    worker = spreading.Worker(index.folder, index.hash, given, 120)
    for seed in range(4):
        best = np.full((4, 120), -np.inf, np.float32)
        numbers = np.full((4, 120), -1)
        for number in np.random.default_rng(seed).permutation(len(made)):
            scores, rows = worker.search(made[number])
            query = np.repeat(np.arange(4), scores.shape[1])
            best, numbers = merged(best, numbers, query, scores.ravel(), rows.ravel())
        np.testing.assert_array_equal(best, whole.similarity)
        np.testing.assert_array_equal(index.ids[numbers], whole.ids)


def test_a_worker_that_sees_another_index_is_refused(index):
    worker = spreading.Worker(index.folder, "0" * 64, queries(index), 1)
    with pytest.raises(BadRecords, match="another index on a worker"):
        worker.search(spreading.units(index)[0])


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install ray")
def test_one_and_two_workers_give_the_bytes_of_none(index):
    import ray

    given = queries(index)
    whole = index.search(given, 9)
    for workers in (1, 2):
        found = index.search(given, 9, spreading.on_ray(workers))
        assert found.similarity.tobytes() == whole.similarity.tobytes()
        assert found.ids.tobytes() == whole.ids.tobytes()
        assert not ray.is_initialized()
    shard = next((index.folder / "shards").glob("00000020-*.npy"))
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(BadRecords, match="was cut off or changed"):
        index.search(given, 9, spreading.on_ray(2))
