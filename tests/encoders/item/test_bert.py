import copy

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.base import clone

from palate._options import RunOptions
from palate._random import ModuleSeed
from palate.data.items import ItemTable
from palate.encoders.item.bert import BertEncoder
from palate.encoders.item.reading import (
    frozen_model,
    learn_whitening,
    loaded_model,
    open_cache,
)
from palate.encoders.item.text_model import TextModel, load_text_model
from palate.exceptions import InvalidParameterError, MissingContentError
from palate.ops.whitening import fit_whitening
from palate.testing.tiny_bert import make_tiny_bert

WORDS = ["lamp", "tall", "red", "cup", "book", "green", "old", "box", "tin", "clock", "blue"]
TITLES = [f"{WORDS[i]} {WORDS[(3 * i + 2) % 11]}" for i in range(11)]
N, D = len(TITLES), 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(make_tiny_bert(tmp_path_factory.mktemp("bert"), words=WORDS))


@pytest.fixture
def options(tmp_path):
    return RunOptions(device="cpu", progress=False, cache=tmp_path / "cache")


def table(titles=TITLES):
    return ItemTable(pd.DataFrame({"title": titles}))


def build(spec, options, items=None, state=None):
    with ModuleSeed(0):
        return spec.build(table() if items is None else items, D, options, state)


def passes():
    return TextModel.n_encoded_


def test_vectors_are_projected_whitened_pooled_text_of_unit_size(folder, options):
    spec = BertEncoder(folder, pooling="cls", n_components=4, whitening=1.0)
    module = build(spec, options).eval()
    raw = load_text_model(folder).encode(TITLES, pooling="cls").astype(np.float64)
    centred = raw - raw.mean(0)
    variances, directions = np.linalg.eigh(centred.T @ centred / N)
    white = centred @ directions[:, ::-1][:, :4] / np.sqrt(variances[::-1][:4])
    white /= np.sqrt(4)  # vectors of length about 1
    signs = np.sign((white * module.features.numpy()).sum(0))
    np.testing.assert_allclose(module.features, white * signs, atol=1e-3)
    weight, bias = (p.detach().double().numpy() for p in module.projection.parameters())
    with torch.no_grad():
        right = white * signs @ weight.T + bias
        np.testing.assert_allclose(module(None), right, atol=1e-4)
        codes = torch.tensor([10, 3, 10])
        np.testing.assert_array_equal(module.content(codes), module.content(None)[codes])
        np.testing.assert_allclose(module(codes), module(None)[codes], rtol=1e-6, atol=1e-8)
        np.testing.assert_array_equal(module(codes, content_only=True), module(codes))


def test_groups_of_columns_are_whitened_apart(folder, options):
    spec = BertEncoder(folder, n_components=6, whitening=1.0, whitening_groups=4)
    module = build(spec, options)
    raw = load_text_model(folder).encode(TITLES).astype(np.float64)
    right = []
    for group, kept in zip(np.split(raw, 4, axis=1), (2, 2, 1, 1), strict=True):
        centred = group - group.mean(0)
        right.append(np.linalg.svd(centred)[0][:, :kept] * np.sqrt(N))
    white = np.concatenate(right, 1) / np.sqrt(6)  # vectors of length about 1
    white *= np.sign((white * module.features.numpy()).sum(0))
    np.testing.assert_allclose(module.features, white, atol=1e-3)
    assert module.text_width == 6
    loaded = build(spec, options, state=module.state_dict())
    loaded.load_state_dict(module.state_dict())
    assert torch.equal(loaded(None), module(None))
    one = build(BertEncoder(folder, n_components=6, whitening_groups=1), options)
    assert torch.equal(one.features, build(BertEncoder(folder, n_components=6), options).features)
    # Beyond the default's 16.
    many = build(BertEncoder(folder, whitening=1.0, whitening_groups=32), options)
    assert many.text_width == 32
    alone = clone(spec).set_params(options=options).fit(TITLES)
    np.testing.assert_array_equal(alone.whitening_, module.matrix)


def test_a_small_catalogue_keeps_the_directions_as_bert_made_them(folder, options):
    module = build(BertEncoder(folder), options)
    raw = load_text_model(folder).encode(TITLES).astype(np.float64)
    centred = raw - raw.mean(0)
    size = np.sqrt((centred**2).sum(1).mean())
    np.testing.assert_allclose(
        module.features @ module.features.T, centred @ centred.T / size**2, atol=1e-5
    )


@pytest.mark.parametrize(
    ("n_texts", "power", "n_kept"), [(1_999, 0.0, 256), (2_000, 1.0, 250), (2_400, 1.0, 256)]
)
def test_from_two_thousand_texts_on_they_are_whitened(n_texts, power, n_kept):
    raw = np.random.default_rng(0).normal(size=(n_texts, 300)).astype(np.float32)
    raw *= np.linspace(0.1, 3, 300, dtype=np.float32)
    _, matrix = learn_whitening(BertEncoder(), raw)
    _, right = fit_whitening(torch.from_numpy(raw), n_kept, power=power, unit_length=True)
    assert torch.equal(matrix, right)


def test_groups_must_divide_the_width(folder, options):
    with pytest.raises(InvalidParameterError) as error:
        build(BertEncoder(folder, whitening_groups=5), options)
    assert str(error.value) == (
        "whitening_groups must divide 32, the width of the model's vectors; got 5."
    )


def test_what_a_frozen_module_says_of_itself(folder, options):
    module = build(BertEncoder(folder), options)
    assert module.has_content
    assert module.takes_text
    assert not module.is_live
    assert {name for name, _ in module.named_parameters()} == {
        "projection.weight",
        "projection.bias",
    }
    assert set(module.state_dict()) == {
        *("projection.weight", "projection.bias", "features", "mean", "matrix", "fingerprint")
    }
    assert module.features.shape[1] < N  # n_components is bounded by what there is


def test_the_second_build_runs_no_bert(folder, options):
    spec, before = BertEncoder(folder), passes()
    first = build(spec, options)
    assert passes() - before == N
    second = build(spec, options)
    assert passes() - before == N
    assert torch.equal(first.features, second.features)
    assert torch.equal(first(None), second(None))
    repeated = build(spec, RunOptions(device="cpu", cache=False), table(TITLES[:3] * 4))
    assert passes() - before == N + 3  # without a cache, each unique text runs once
    assert repeated(None).shape == (12, D)


def test_what_read_the_catalogue_is_let_go_and_what_reads_later_stays(folder, options):
    module = build(BertEncoder(folder), options)
    assert not loaded_model.cache_info().currsize
    module.encode_texts(["a lamp"], options)
    assert frozen_model(module.source) is frozen_model(module.source)
    assert loaded_model.cache_info().currsize == 1


def test_extend_reads_new_rows_alone(folder, options):
    module = build(BertEncoder(folder), options, table(TITLES[:8]))
    features, before = module.features.clone(), passes()
    seen = torch.ones(N, dtype=torch.bool)
    module.extend(table(TITLES[:8]), seen[:8], options)
    assert passes() == before
    module.extend(table(), seen, options)
    assert passes() - before == 3
    assert module(None).shape == (N, D)
    assert torch.equal(module.features[:8], features)
    again = build(BertEncoder(folder), options)
    assert passes() - before == 3  # what extend read is on disk too
    assert again(None).shape == (N, D)
    with torch.no_grad():
        by_text = module.encode_texts(TITLES, options)
        torch.testing.assert_close(by_text, module(None), rtol=0, atol=1e-4)


@pytest.mark.parametrize("whitening", [0.0, 1.0])
def test_another_domain_is_whitened_by_itself_and_placed_as_it_was(
    folder, options, monkeypatch, whitening
):
    monkeypatch.setattr("palate.encoders.item.bert_items._LEAST_OF_DOMAIN", 4)
    module = build(BertEncoder(folder, whitening=whitening), options, table(TITLES[:7]))
    width, other = module.text_width, copy.deepcopy(module)
    known = module.features.clone()
    seen, codes = torch.ones(N, dtype=torch.bool), torch.arange(7, N)
    other.extend(table(), seen, options)
    with torch.no_grad():
        expected, places = other(codes), other(torch.arange(7))
        void = module.settle(table(), seen, codes, options)
        assert void == ["projection.weight", "projection.bias"]
        torch.testing.assert_close(module(codes), expected, rtol=0, atol=2e-3)
    rows = module.features[codes]
    assert module.features.shape == (N, width)  # four texts have three directions: others are zeros
    assert (rows.abs().sum(0) > 1e-6).sum() == 3
    np.testing.assert_allclose(rows.mean(0), 0, atol=1e-6)
    assert float(rows.square().sum(1).mean()) == pytest.approx(1, abs=1e-5)
    raw = load_text_model(folder).encode(TITLES)
    by_hand = (raw - module.mean.numpy()) @ module.matrix.numpy()
    np.testing.assert_allclose(rows, by_hand[7:], atol=1e-4)
    # Six directions hold all of seven texts: the known ones are what they would be.
    assert known.shape == (7, 6)
    np.testing.assert_allclose(module.features[:7], by_hand[:7], atol=1e-3)
    assert places.shape == (7, D)


@pytest.mark.parametrize("n_texts", [3, 4], ids=["few texts", "live"])
def test_else_another_domain_is_read_as_the_first(folder, options, monkeypatch, n_texts):
    monkeypatch.setattr("palate.encoders.item.bert_items._LEAST_OF_DOMAIN", 4)
    spec = BertEncoder(folder, finetune="last" if n_texts == 4 else "frozen")
    module = build(spec, options, table(TITLES[:7]))
    other, seen = copy.deepcopy(module), torch.ones(7 + n_texts, dtype=torch.bool)
    other.extend(table(TITLES[: 7 + n_texts]), seen, options)
    codes = torch.arange(7, 7 + n_texts)
    assert module.settle(table(TITLES[: 7 + n_texts]), seen, codes, options) == []
    assert torch.equal(module.features, other.features)
    assert torch.equal(module.mean, other.mean)


def test_free_texts_share_the_space_and_leave_nothing_on_disk(folder, options):
    module = build(BertEncoder(folder), options)
    cache = open_cache(options)
    texts, n_kept = ["an old red lamp", TITLES[2], ""], len(list(cache.folder.rglob("*")))
    before, size = passes(), cache.path.stat().st_size
    with torch.no_grad():
        vectors = module.encode_texts(texts, options)
        assert vectors.shape == (3, D)
        torch.testing.assert_close(vectors[1], module(None)[2], rtol=0, atol=1e-4)
        again = module.encode_texts(texts, options)
    torch.testing.assert_close(again, vectors)
    assert passes() - before == 6
    assert cache.path.stat().st_size == size
    assert len(list(cache.folder.rglob("*"))) == n_kept


def test_a_saved_module_reads_no_text(folder, options):
    module, before = build(BertEncoder(folder), options), passes()
    state = module.state_dict()
    loaded = build(BertEncoder(folder), options, state=state)
    loaded.load_state_dict(state)
    assert passes() == before
    assert torch.equal(loaded(None), module(None))
    assert loaded.features.data_ptr() != module.features.data_ptr()
    torch.testing.assert_close(
        loaded.encode_texts(["a lamp"], options), module.encode_texts(["a lamp"], options)
    )


def test_equal_texts_tell_nothing_apart(folder, options):
    module = build(BertEncoder(folder), options, table(["lamp"] * 3))
    assert module.features.abs().sum() == 0
    assert torch.isfinite(module(None)).all()


@pytest.mark.parametrize("finetune", ["last", "full"])
@pytest.mark.parametrize("codes", [None, [4, 0, 4]])
def test_fine_tuning_reaches_bert(folder, options, finetune, codes):
    module = build(BertEncoder(folder, finetune=finetune), options).train()
    assert module.is_live
    vectors = module(None if codes is None else torch.tensor(codes))
    vectors.square().sum().backward()
    reached = {n for n, p in module.named_parameters() if p.grad is not None and p.grad.any()}
    layers = {name.split(".layer.")[1][0] for name in reached if ".layer." in name}
    assert layers == ({"1"} if finetune == "last" else {"0", "1"})
    assert ("bert.embeddings.word_embeddings.weight" in reached) == (finetune == "full")
    assert "projection.weight" in reached


@pytest.mark.parametrize("codes", [None, [4, 0, 4]])
def test_low_rank_updates_start_at_the_frozen_model_and_learn_alone(folder, options, codes):
    frozen = build(BertEncoder(folder), options)
    module = build(BertEncoder(folder, finetune="lora", lora_rank=3), options)
    torch.testing.assert_close(module.eval()(None), frozen.eval()(None), rtol=0, atol=0)
    plain = load_text_model(folder)
    tokens = plain.tokenize(TITLES)
    with torch.no_grad():
        assert torch.equal(module._live.pool(tokens), plain.pool(tokens))
    projection = {"projection.weight", "projection.bias"}
    learns = {name for name, p in module.named_parameters() if p.requires_grad}
    places = [f"{layer}.attention.self.{name}" for layer in (0, 1) for name in ("query", "value")]
    assert learns - projection == {
        f"bert.encoder.layer.{place}.lora_{part}" for place in places for part in "ab"
    }
    jitter_updates(module)  # A has no gradient as long as B is zero
    module.train()(None if codes is None else torch.tensor(codes)).square().sum().backward()
    reached = {n for n, p in module.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == learns
    assert module.bert.encoder.layer[0].attention.self.query.lora_a.shape == (3, 32)


def jitter_updates(module):
    generator = torch.Generator().manual_seed(2)
    for name, parameter in module.named_parameters():
        if ".lora_" in name:
            parameter.data.copy_(0.2 * torch.randn(parameter.shape, generator=generator))


def test_low_rank_updates_are_saved_and_copied(folder, options):
    spec = BertEncoder(folder, finetune="lora", lora_rank=3)
    module = build(spec, options)
    before = module.eval()(None)
    jitter_updates(module)
    module.refresh(options)
    assert (module(None) - before).abs().max() > 1e-3
    texts = ["an old red lamp", "a chair"]
    heard = module.encode_texts(texts, options)
    with ModuleSeed(1):  # other weights than those that are loaded
        loaded = spec.build(table(), D, options, module.state_dict())
    loaded.load_state_dict(module.state_dict())
    for other in (loaded.eval(), copy.deepcopy(module)):
        assert other._live.model is other.bert
        assert torch.equal(other(None), module(None))
        assert torch.equal(other.encode_texts(texts, options), heard)
        other.refresh(options)
        assert torch.equal(other(None), module(None))
    other.train()(torch.tensor([1])).sum().backward()
    assert all(p.grad is None for p in module.parameters())
    assert clone(spec).get_params()["lora_rank"] == 3
    assert clone(spec).get_params()["finetune"] == "lora"
    # A frozen model that is loaded once for all has no updates.
    untouched = build(BertEncoder(folder), options)
    torch.testing.assert_close(untouched.features, load_frozen(folder, options), rtol=0, atol=1e-4)


def test_live_vectors_follow_the_weights_and_stored_ones_a_refresh(folder, options):
    module = build(BertEncoder(folder, finetune="full"), options)
    for layer in module.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    codes = torch.tensor([4, 0, 9])
    with torch.no_grad():
        stored = module.eval()(None).clone()
        live = module.train()(codes)
        torch.testing.assert_close(live, stored[codes], rtol=0, atol=1e-4)
        for parameter in module.bert.parameters():
            parameter.mul_(1.3)
        assert torch.equal(module.eval()(None), stored)
        live = module.train()(codes)
        assert (live - stored[codes]).abs().max() > 1e-3
        module.refresh(options)
        fresh = module.eval()(None)
        torch.testing.assert_close(fresh[codes], live, rtol=0, atol=1e-4)
        # Free texts are read with the trained weights, and never stored under the original's name.
        texts = module.encode_texts([TITLES[4]], options)
        torch.testing.assert_close(texts[0], fresh[4], rtol=0, atol=1e-4)
    untouched = build(BertEncoder(folder), options)
    torch.testing.assert_close(untouched.features, load_frozen(folder, options), rtol=0, atol=1e-4)


def load_frozen(folder, options):
    return build(BertEncoder(folder), RunOptions(device="cpu", cache=False)).features


def test_refreshing_a_frozen_module_runs_nothing(folder, options):
    module = build(BertEncoder(folder), options)
    before, features = passes(), module.features
    module.refresh(options)
    assert passes() == before
    assert module.features is features


def test_growing_a_live_module(folder, options):
    module = build(BertEncoder(folder, finetune="last"), options, table(TITLES[:8]))
    module.extend(table(), torch.ones(N, dtype=torch.bool), options)
    assert module.train()(torch.tensor([10])).shape == (1, D)
    assert module.eval()(None).shape == (N, D)


def test_a_copy_of_a_live_module_trains_its_own_bert(folder, options):
    module = build(BertEncoder(folder, finetune="full"), options).train()
    other = copy.deepcopy(module)
    assert other._live.model is other.bert
    assert other.bert is not module.bert
    other(torch.tensor([1])).sum().backward()
    assert all(p.grad is None for p in module.parameters())


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"pooling": "max"}, "pooling must be one of 'mean', 'cls'; got 'max'."),
        (
            {"finetune": "adapter"},
            "finetune must be one of 'frozen', 'last', 'lora', 'full'; got 'adapter'.",
        ),
        ({"lora_rank": 0}, "lora_rank must be an integer of at least 1; got 0."),
        ({"max_tokens": 2}, "max_tokens must be an integer of at least 3; got 2."),
        ({"n_components": 0}, "n_components must be an integer of at least 1; got 0."),
        ({"whitening": 2}, "whitening must be a number in [0, 1] or 'auto'; got 2."),
        ({"whitening": "full"}, "whitening must be a number in [0, 1] or 'auto'; got 'full'."),
        ({"whitening_groups": 0}, "whitening_groups must be an integer of at least 1; got 0."),
        (
            {"n_components": 3, "whitening_groups": 4},
            "n_components must be at least whitening_groups=4, so that each group keeps a "
            "direction; got 3.",
        ),
    ],
)
def test_parameters_are_checked_when_built(folder, options, params, text):
    with pytest.raises(InvalidParameterError) as error:
        build(BertEncoder(folder, **params), options)
    assert str(error.value) == text


def test_the_columns_that_make_the_text(folder, options):
    frame = pd.DataFrame({"title": TITLES, "tags": TITLES[::-1], "price": range(N)})
    both = build(BertEncoder(folder), options, ItemTable(frame))
    one = build(BertEncoder(folder, text_columns=["title"]), options, ItemTable(frame))
    assert not torch.equal(both.features, one.features)
    assert torch.equal(one.features, build(BertEncoder(folder), options).features)
    with pytest.raises(MissingContentError):
        build(BertEncoder(folder), options, ItemTable.without_content(N))


def test_the_cache_that_the_options_name(tmp_path, monkeypatch):
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "default"))
    assert open_cache(RunOptions(cache=False)) is None
    assert (tmp_path / "default") in open_cache(RunOptions()).path.parents
    assert open_cache(RunOptions(cache=tmp_path / "own")).path.parent == tmp_path / "own"


def test_weights_that_change_on_disk_are_read_anew(tmp_path, options):
    """And what the cache keeps under the new weights is what these make."""
    folder = make_tiny_bert(tmp_path / "bert", words=WORDS)
    spec, weights = BertEncoder(str(folder)), folder / "model.safetensors"
    module = build(spec, options)
    module.encode_texts(["a lamp"], options)  # the model is in memory from here on
    first = module.features
    changed = {name: tensor + 0.3 for name, tensor in load_file(weights).items()}
    save_file(changed, weights, metadata={"format": "pt"})
    second = build(spec, options).features
    assert (first - second).abs().max() > 1e-3
    again = build(spec, RunOptions(device="cpu", cache=False)).features
    torch.testing.assert_close(second, again, rtol=0, atol=1e-5)


def test_a_domain_after_equal_texts_is_read_as_they_were(folder, options, monkeypatch):
    """Equal texts have one direction: two groups of it there are not."""
    monkeypatch.setattr("palate.encoders.item.bert_items._LEAST_OF_DOMAIN", 4)
    spec = BertEncoder(folder, whitening_groups=2, whitening=1.0)
    module = build(spec, options, table(["a lamp"] * 7))
    assert module.text_width == 1
    titles = ["a lamp"] * 7 + TITLES[:4]
    seen, codes = torch.ones(11, dtype=torch.bool), torch.arange(7, 11)
    assert module.settle(table(titles), seen, codes, options) == []
    assert module.features.shape == (11, 1)
