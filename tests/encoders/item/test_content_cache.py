import sqlite3
import warnings

import numpy as np
import pytest

from palate.encoders.item.content_cache import cached_encode, content_keys
from palate.encoders.item.content_store import ContentCache
from palate.encoders.item.model_source import ModelSource, resolve_model
from palate.encoders.item.text_model import TextModel, load_text_model
from palate.exceptions import InvalidInputError, InvalidParameterError, PalateWarning
from palate.testing.tiny_bert import make_tiny_bert

TEXTS = ["a book", "", "a lamp", "a book", "tea \ud83d", "中文", "a lamp with a shade"]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return resolve_model(make_tiny_bert(tmp_path_factory.mktemp("bert")))


@pytest.fixture
def cache(tmp_path):
    return ContentCache(tmp_path / "cache")


@pytest.fixture
def passes():
    """A function that tells how many texts ran since it was last called."""
    last = [TextModel.n_encoded_]

    def since():
        n = TextModel.n_encoded_ - last[0]
        last[0] = TextModel.n_encoded_
        return n

    return since


def rows(n, dim=5, seed=0):
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


def refuse():
    raise AssertionError("the model was loaded")


def test_the_second_call_runs_nothing_and_loads_nothing(source, cache, passes):
    first = cached_encode(TEXTS, source, cache=cache)
    assert passes() == 6
    np.testing.assert_allclose(first, load_text_model(source).encode(TEXTS), atol=2e-5)
    passes()
    again = cached_encode(TEXTS, source, cache=ContentCache(cache.folder), load=refuse)
    assert passes() == 0
    assert again.dtype == np.float32
    np.testing.assert_array_equal(again, first)


def test_only_missing_texts_run(source, cache, passes):
    cached_encode(TEXTS[:3], source, cache=cache)
    assert passes() == 3
    mixed = [TEXTS[row] for row in (0, 6, 1, 5, 2, 4)]  # known and missing in turn
    vectors = cached_encode(mixed, str(source.folder), cache=cache)
    assert passes() == 3
    np.testing.assert_allclose(vectors, load_text_model(source).encode(mixed), atol=2e-5)


def test_options_are_part_of_the_key(source, cache, passes, tmp_path):
    cached_encode(TEXTS, source, cache=cache)
    passes()
    other = resolve_model(make_tiny_bert(tmp_path / "other", random_state=1))
    for options in ({"pooling": "cls"}, {"max_tokens": 4}, {"source": other}):
        options = {"source": source, **options}
        vectors = cached_encode(TEXTS, cache=cache, **options)
        assert passes() == 6
        model = load_text_model(options.pop("source"))
        np.testing.assert_allclose(vectors, model.encode(TEXTS, **options), atol=2e-5)
        passes()
    cached_encode(TEXTS, source, cache=cache, batch_size=2, device="cpu", load=refuse)


def test_a_moved_model_finds_its_vectors(source, cache, tmp_path):
    first = cached_encode(TEXTS, source, cache=cache)
    twin = make_tiny_bert(tmp_path / "elsewhere")
    again = cached_encode(TEXTS, str(twin), cache=cache, load=refuse)
    np.testing.assert_array_equal(again, first)


def test_without_a_cache(source, passes, tmp_path, monkeypatch):
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path))
    for _ in range(2):
        assert cached_encode(TEXTS, source).shape == (7, 32)
        assert passes() == 6
    assert not list(tmp_path.iterdir())


def test_no_texts(source, cache):
    assert cached_encode([], source, cache=cache, load=refuse).shape == (0, 32)


def test_the_callers_model_is_used_once(source, cache):
    loaded = []

    def load():
        loaded.append(load_text_model(source))
        return loaded[-1]

    cached_encode(TEXTS, source, cache=cache, load=load)
    cached_encode([*TEXTS, "new"], source, cache=cache, load=lambda: loaded[0])
    assert len(loaded) == 1


def test_an_interruption_keeps_what_was_done(source, cache, passes, monkeypatch):
    run, batches = TextModel._run, []

    def interrupted(self, *args):
        batches.append(1)
        if len(batches) == 3:
            raise KeyboardInterrupt
        return run(self, *args)

    monkeypatch.setattr(TextModel, "_run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cached_encode(TEXTS, source, cache=cache, batch_size=2)
    passes()
    cached_encode(TEXTS, source, cache=cache)
    assert passes() == 2


def test_groups_do_not_matter(source, cache, passes, monkeypatch):
    expected = cached_encode(TEXTS, source)
    passes()
    monkeypatch.setattr("palate.encoders.item.content_cache._GROUP", 4)
    vectors = cached_encode(TEXTS, source, cache=cache, batch_size=3)
    np.testing.assert_allclose(vectors, expected, atol=2e-5)
    np.testing.assert_array_equal(cached_encode(TEXTS, source, cache=cache, load=refuse), vectors)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"texts": "a book"},
            InvalidInputError,
            "texts must be a sequence of strings; got the string 'a book'.",
        ),
        ({"pooling": 3}, InvalidParameterError, "pooling must be one of 'mean', 'cls'; got 3."),
        (
            {"max_tokens": 0},
            InvalidParameterError,
            "max_tokens must be an integer of at least 3; got 0.",
        ),
        (
            {"batch_size": 0},
            InvalidParameterError,
            "batch_size must be an integer of at least 1; got 0.",
        ),
    ],
)
def test_refused(source, options, error, message):
    with pytest.raises(error) as caught:
        cached_encode(**{"texts": ["a"], "source": source, **options})
    assert str(caught.value) == message


def test_keys_tell_everything_apart():
    base = content_keys(["a", "b", "", "\ud83d", "\ufffd"], "f", "mean", 256)
    assert len(set(base)) == 5 and {len(key) for key in base} == {20}
    others = [
        *content_keys(["A", " a"], "f", "mean", 256),
        *content_keys(["a"], "g", "mean", 256),
        *content_keys(["a"], "f", "cls", 256),
        *content_keys(["a"], "f", "mean", 25),
        *content_keys(["6\na"], "f", "mean", 25),
    ]
    assert len({*base, *others}) == 11
    assert content_keys(["a"], "f", "mean", 256) == base[:1]


def test_a_vector_of_another_width_is_computed_again(source, cache, passes):
    keys = content_keys(["a book"], source.fingerprint)
    cache.put_many(keys, rows(1, dim=3))
    assert cached_encode(["a book"], source, cache=cache).shape == (1, 32)
    assert passes() == 1


def test_a_folder_that_cannot_be_made_gives_one_warning(source, tmp_path, passes):
    (tmp_path / "file").write_text("not a folder")
    cache = ContentCache(tmp_path / "file" / "cache")
    with pytest.warns(PalateWarning) as caught:
        vectors = cached_encode(TEXTS, source, cache=cache, batch_size=2)
        cached_encode(TEXTS, source, cache=cache)
    assert len(caught) == 1
    assert str(caught[0].message).startswith(f"The content cache {cache.path} failed to write (")
    assert vectors.shape == (7, 32) and passes() == 12


def test_a_file_that_cannot_be_written_is_still_read(source, cache, monkeypatch):
    """Permissions do not bind root, so SQLite itself is told to refuse writing."""
    first = cached_encode(TEXTS, source, cache=cache)

    def read_only(self):
        return sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True)

    monkeypatch.setattr(ContentCache, "_connect", read_only)
    again = cached_encode(TEXTS, source, cache=cache, load=refuse)
    np.testing.assert_array_equal(again, first)
    with pytest.warns(PalateWarning, match="failed to write .attempt to write"):
        cached_encode(["new", *TEXTS], source, cache=cache)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cached_encode(["newer"], source, cache=cache)
        cached_encode(TEXTS, source, cache=cache, load=refuse)


def test_fifty_thousand_hits_are_quick(source, cache):
    import time

    texts = [f"thing {n}" for n in range(50_000)]
    vectors = rows(50_000, dim=32)
    cache.put_many(content_keys(texts, source.fingerprint), vectors)
    start = time.perf_counter()
    found = cached_encode(texts, source, cache=cache, load=refuse)
    assert time.perf_counter() - start < 5  # a fraction of a second on an idle machine
    np.testing.assert_array_equal(found, vectors)


def test_a_name_is_resolved(source, cache):
    assert isinstance(source, ModelSource)
    with pytest.raises(InvalidParameterError, match="which is not a folder"):
        cached_encode(["a"], "/no/such/model", cache=cache)
