"""An approximate answer has exact similarities and says how much it misses."""

import numpy as np
import pytest
from reference.toy_index import write_rows

from sidestep.audit import approximate
from sidestep.audit.approximate import Approximate
from sidestep.audit.index import open_index
from sidestep.audit.recall import planted, recall
from sidestep.errors import SidestepError
from sidestep.similarity.intervals import clopper_pearson
from sidestep.similarity.search import nearest

pytest.importorskip("pyarrow")
pytest.importorskip("faiss")


def rows_of(n, seed=0):
    rows = np.random.default_rng(seed).standard_normal((n, 32))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    out = tmp_path_factory.mktemp("rows") / "index"
    write_rows(out, rows_of(3000), 256)
    return open_index(out)


@pytest.mark.parametrize("way", ["compressed", "pruned"])
def test_similarities_are_exact_and_recall_is_that_of_the_search(index, way):
    rows = rows_of(3000)
    queries = rows_of(40, seed=1).astype(np.float32)
    search = Approximate.of(index, way)
    found, levels = search.search(queries, 3)
    numbers = found.ids.astype(np.int64)
    exact = np.einsum("qd,qkd->qk", queries.astype(np.float64), rows[numbers].astype(np.float64))
    np.testing.assert_array_equal(found.similarity, exact.astype(np.float32))
    assert (np.diff(found.similarity) <= 0).all()
    # The recall once more, by brute force over the same planted queries.
    copies, _ = planted(index)
    _, best = nearest(copies, rows.astype(np.float32))
    hit = (search.search(copies, 3).found.ids.astype(np.int64) == best).any(axis=1)
    assert [level.found for level in levels] == hit.reshape(6, 100).sum(axis=1).tolist()
    for level in levels:
        assert level.of == 100 and level[3:] == clopper_pearson(level.found, 100)


def test_planted_queries_have_the_stated_cosines(index):
    queries, numbers = planted(index, (0.5, 0.9), 200)
    rows = rows_of(3000)[numbers].astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cosine = np.einsum("nd,nd->n", queries.astype(np.float64), rows)
    # Queries are rounded to float32: 32 numbers, each off by 2^-24 of itself.
    np.testing.assert_allclose(cosine, np.repeat([0.5, 0.9], 200), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1, atol=1e-6)


def test_recall_counts_what_a_search_misses(index):
    seen = []

    def half(queries):
        seen.append(len(queries))
        _, best = nearest(queries, rows_of(3000).astype(np.float32))
        best[::2] = -1
        return best

    levels = recall(index, half, (0.6, 0.8), 50)
    assert seen == [100] and [x.found for x in levels] == [25, 25]


def test_pruning_misses_copies_and_says_so(index, monkeypatch):
    monkeypatch.setattr(approximate, "VISITED", 1)
    levels = Approximate.of(index, "pruned").search(rows_of(2).astype(np.float32)).recall
    assert levels[0].found < 60 and levels[0].high < 0.7


def test_a_cache_is_used_only_as_it_was_written(index, tmp_path):
    queries = rows_of(9, seed=1).astype(np.float32)
    whole = Approximate.of(index, "compressed", tmp_path).search(queries)
    file = next(tmp_path.glob("*.faiss"))
    written, filled = file.read_bytes(), []
    make = approximate._filled
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(approximate, "_filled", lambda *a: filled.append(1) or make(*a))
        again = Approximate.of(index, "compressed", tmp_path).search(queries)
        assert not filled and again.found.ids.tobytes() == whole.found.ids.tobytes()
        file.write_bytes(written[:-1] + bytes([written[-1] ^ 1]))
        Approximate.of(index, "compressed", tmp_path)
        assert filled == [1] and file.read_bytes() == written


def test_what_cannot_be_searched_so_is_a_sentence(index, tmp_path):
    write_rows(tmp_path / "small", rows_of(999), 256)
    with pytest.raises(SidestepError, match="exact search of so few takes no time"):
        Approximate.of(open_index(tmp_path / "small"), "pruned")
    with pytest.raises(ValueError, match="one of compressed, pruned"):
        Approximate.of(index, "graph")
    with pytest.raises(ValueError, match=r"k is 0; it must lie in 1\.\.3000"):
        Approximate.of(index, "compressed").search(rows_of(2).astype(np.float32), 0)
