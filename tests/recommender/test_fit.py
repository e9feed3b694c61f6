"""Learning from scratch: resets, seeds, stages, early stopping, interruption, finetuning."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from palate import (
    BertEncoder,
    CosineRanker,
    Fusion,
    GBCEObjective,
    GRUEncoder,
    IdEncoder,
    Recommender,
    RunOptions,
    SampledSoftmaxObjective,
    SoftmaxObjective,
    TransformerEncoder,
)
from palate.data import lists
from palate.encoders.item.text_model import TextModel
from palate.exceptions import (
    InvalidInputError,
    InvalidParameterError,
    MissingContentError,
    TrainingInterruptedWarning,
)

Make = Callable[..., Recommender]


def cycle(n_users: int, n_items: int, n_events: int) -> list[list[int]]:
    """Histories that walk around a ring of items: the next item is always the one behind."""
    return [[(u + t) % n_items for t in range(n_events)] for u in range(n_users)]


def share_of_hits(model: Recommender, n_items: int) -> float:
    starts = [[(s + t) % n_items for t in range(4)] for s in range(n_items)]
    table = model.recommend(histories=starts, k=1, filter_viewed=False)
    return float(np.mean(table["item_id"].to_numpy() == (np.arange(n_items) + 4) % n_items))


@pytest.mark.parametrize("pooling", ["last", "mean", "attention"])
@pytest.mark.parametrize("encoder", [GRUEncoder, TransformerEncoder])
def test_every_encoder_and_pooling_learns_a_cycle(
    encoder: type, pooling: str, make_recommender: Make
) -> None:
    n_items = 12
    model = make_recommender(
        user_encoder=encoder(pooling=pooling, dropout=0.0),
        dim=24,
        epochs=12,
        batch_size=8,
        learning_rate=1e-2,
        validation_fraction=0,
    ).fit(cycle(48, n_items, 7))
    assert share_of_hits(model, n_items) >= 0.9  # by chance 1/12


@pytest.mark.parametrize(
    "params",
    [
        {"metric": "euclidean"},
        {"metric": "dot"},
        {"objective": SampledSoftmaxObjective(n_negatives=5)},
        {"objective": "sampled_softmax"},
        {"objective": "gbce"},
        {"objective": SoftmaxObjective(label_smoothing=0.1, temperature=0.1)},
        {"averaging": 1.0},
        {"user_encoder": "gru", "ranker": CosineRanker(item_block=3)},
    ],
)
def test_other_metrics_and_objectives_learn_a_cycle(
    params: dict[str, Any], make_recommender: Make
) -> None:
    model = make_recommender(
        **params, dim=24, epochs=15, batch_size=8, learning_rate=1e-2, validation_fraction=0
    ).fit(cycle(48, 12, 7))
    assert share_of_hits(model, 12) >= 0.9


def test_a_checkerboard_is_learned_and_its_gap_filled(make_recommender: Make) -> None:
    # Even users read even items, odd users odd ones; each misses one of its own colour.
    rng = np.random.default_rng(5)
    n_users, n_items, rows = 60, 14, []
    for user in range(n_users):
        own = [i for i in range(n_items) if i % 2 == user % 2 and i != user % n_items]
        rows += [(user, item) for item in rng.permutation(own)]
    frame = pd.DataFrame(rows, columns=["user_id", "item_id"])
    model = make_recommender(
        dim=16, epochs=10, batch_size=8, learning_rate=1e-2, validation_fraction=0
    ).fit(frame)
    table = model.recommend(k=1)
    gap = table["user_id"] % n_items
    assert (table["item_id"] == gap).mean() >= 0.9  # by chance 1/8


def test_fitting_twice_is_fitting_once(
    make_recommender: Make,
    events: pd.DataFrame,
    items: pd.DataFrame,
    snapshot: Any,
    assert_same: Any,
) -> None:
    model = make_recommender(item_encoder="bert+id", pretrain_epochs=1)
    first = snapshot(model.fit(events, items=items))
    assert_same(first, snapshot(model.fit(events, items=items)))
    other = model.set_params(random_state=1).fit(events, items=items)
    assert not np.array_equal(other.item_vectors_, first["vectors"])


def test_fit_forgets_what_was_there(make_recommender: Make, events: pd.DataFrame) -> None:
    model = make_recommender(epochs=2).fit(events).fit([["a", "b", "c"], ["b", "c"]])
    assert model.item_ids_.tolist() == ["a", "b", "c"]
    assert model.user_ids_.tolist() == [0, 1]
    assert [record["epoch"] for record in model.history_] == [0, 1]
    assert not hasattr(model, "n_features_in_")


@pytest.mark.parametrize("seed", [3, np.int64(3), np.random.RandomState(3)])
def test_the_global_seeds_are_not_touched(
    seed: Any, make_recommender: Make, events: pd.DataFrame
) -> None:
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    model = make_recommender(random_state=seed, pretrain_epochs=1).fit(events)
    model.partial_fit(events[:4])
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)


def test_a_random_state_moves_on_and_an_integer_does_not(
    make_recommender: Make, events: pd.DataFrame
) -> None:
    shared = np.random.RandomState(3)
    first = make_recommender(random_state=shared).fit(events).item_vectors_
    second = make_recommender(random_state=shared).fit(events).item_vectors_
    again = make_recommender(random_state=np.random.RandomState(3)).fit(events).item_vectors_
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, again)
    of_int = [make_recommender(random_state=s).fit(events).item_vectors_ for s in (3, np.int32(3))]
    np.testing.assert_array_equal(of_int[0], of_int[1])


def test_a_second_fit_on_the_same_texts_runs_no_bert(
    make_recommender: Make,
    events: pd.DataFrame,
    items: pd.DataFrame,
    tiny_bert: str,
    tmp_path: Any,
) -> None:
    options = RunOptions(device="cpu", progress=False, cache=tmp_path)
    before = TextModel.n_encoded_
    first = make_recommender(item_encoder="bert+id", options=options).fit(events, items=items)
    assert TextModel.n_encoded_ - before == items["title"].nunique()
    # Another estimator, other parameters, another part: the content is the same.
    before = TextModel.n_encoded_
    spec = Fusion([IdEncoder(), BertEncoder(tiny_bert, n_components=5)])
    make_recommender(item_encoder=spec, options=options).fit(events, items=items[::-1])
    first.fit(events, items=items).partial_fit(events[:3])
    assert TextModel.n_encoded_ == before
    first.partial_fit(events[:3], items=pd.DataFrame({"item_id": ["n"], "title": ["a new one"]}))
    assert TextModel.n_encoded_ == before + 1


def test_history_records_both_stages(
    make_recommender: Make, events: pd.DataFrame, items: pd.DataFrame, options: RunOptions
) -> None:
    heard: list[Mapping[str, Any]] = []
    model = make_recommender(
        item_encoder="bert+id",
        pretrain_epochs=2,
        epochs=3,
        options=dataclasses.replace(options, on_epoch_end=heard.append),
    ).fit(events, items=items)
    stages = [(record["stage"], record["epoch"]) for record in model.history_]
    assert stages == [("pretrain", 0), ("pretrain", 1), ("fit", 0), ("fit", 1), ("fit", 2)]
    for record in model.history_:
        assert list(record) == ["stage", "epoch", "loss", "ndcg@10", "seconds"]
        assert record["loss"] > 0
        assert record["seconds"] > 0
        assert (record["ndcg@10"] is None) == (record["stage"] == "pretrain")
    assert heard == model.history_


def test_the_pretraining_stage_changes_the_model(
    make_recommender: Make, events: pd.DataFrame, items: pd.DataFrame
) -> None:
    without = make_recommender(item_encoder="bert", epochs=0).fit(events, items=items)
    trained = make_recommender(item_encoder="bert", epochs=0, pretrain_epochs=1)
    trained.fit(events, items=items)
    assert not np.allclose(without.item_vectors_, trained.item_vectors_)
    assert without.history_ == []


def test_pretraining_alone_learns_from_sequences(make_recommender: Make) -> None:
    model = make_recommender(
        dim=24, epochs=0, pretrain_epochs=15, batch_size=8, learning_rate=1e-2
    ).fit(cycle(48, 12, 7))
    losses = [record["loss"] for record in model.history_]
    assert losses[-1] < 0.8 * losses[0]


def test_early_stopping_keeps_the_best_weights(make_recommender: Make, options: RunOptions) -> None:
    # Users follow a cycle whose last step breaks the rule: validation cannot go on rising.
    rng = np.random.default_rng(11)
    histories = [[*row[:-1], int(rng.integers(12))] for row in cycle(40, 12, 6)]
    params = {"dim": 16, "batch_size": 8, "learning_rate": 1e-2, "validation_fraction": 0.5}
    model = make_recommender(epochs=40, patience=2, **params).fit(histories)
    metrics = [record["ndcg@10"] for record in model.history_]
    assert len(metrics) < 40
    best = int(np.argmax(metrics))
    assert len(metrics) == best + 1 + 2
    # Stopped by hand right after the best epoch, training leaves the same model.
    stopped = make_recommender(
        epochs=40, patience=2, options=interrupting(options, "fit", best), **params
    )
    with pytest.warns(TrainingInterruptedWarning):
        stopped.fit(histories)
    np.testing.assert_array_equal(stopped.item_vectors_, model.item_vectors_)


def test_without_validation_all_epochs_run_on_everything(
    make_recommender: Make, events: pd.DataFrame
) -> None:
    model = make_recommender(validation_fraction=0, epochs=4, patience=1).fit(events)
    assert [record["ndcg@10"] for record in model.history_] == [None] * 4


def interrupting(options: RunOptions, stage: str, epoch: int) -> RunOptions:
    def interrupt(record: Mapping[str, Any]) -> None:
        if (record["stage"], record["epoch"]) == (stage, epoch):
            raise KeyboardInterrupt

    return dataclasses.replace(options, on_epoch_end=interrupt)


@pytest.mark.parametrize("validation_fraction", [0, 0.3])
def test_an_interrupted_fit_leaves_a_model_and_says_so(
    make_recommender: Make,
    events: pd.DataFrame,
    items: pd.DataFrame,
    options: RunOptions,
    validation_fraction: float,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = make_recommender(
        item_encoder="bert+id",
        epochs=9,
        validation_fraction=validation_fraction,
        options=interrupting(options, "fit", 1),
    )
    with (
        caplog.at_level(logging.WARNING, "palate"),
        pytest.warns(TrainingInterruptedWarning) as caught,
    ):
        model.fit(events, items=items)
    kept = "the best weights so far" if validation_fraction else "the weights reached so far"
    message = f"Training was interrupted in epoch 2 of stage 'fit'; {kept} are kept."
    assert [str(warning.message) for warning in caught] == [message]
    assert message in caplog.text
    assert len(model.history_) == 2
    table = model.recommend(["u0", "u1"], k=3)
    assert len(table) == 6
    assert np.isfinite(table["score"]).all()
    # And it learns on.
    model.set_params(options=options).partial_fit(events[:4], epochs=1)
    assert len(model.history_) == 3


def test_an_interrupt_in_pretraining_ends_all_training(
    make_recommender: Make, events: pd.DataFrame, options: RunOptions
) -> None:
    model = make_recommender(
        pretrain_epochs=5, epochs=5, options=interrupting(options, "pretrain", 0)
    )
    with pytest.warns(TrainingInterruptedWarning):
        model.fit(events)
    assert [record["stage"] for record in model.history_] == ["pretrain"]
    assert len(model.recommend(["u0"], k=3)) == 3


def test_another_exception_leaves_the_estimator_as_it_was(
    fitted_once: Recommender,
    model: Recommender,
    events: pd.DataFrame,
    items: pd.DataFrame,
    options: RunOptions,
    snapshot: Any,
    assert_same: Any,
) -> None:
    def fail(record: Mapping[str, Any]) -> None:
        raise RuntimeError("stop")

    model.set_params(options=dataclasses.replace(options, on_epoch_end=fail))
    with pytest.raises(RuntimeError, match=r"^stop$"):
        model.fit(events[:20], items=items)
    with pytest.raises(RuntimeError, match=r"^stop$"):
        model.partial_fit(events[:20])
    model.set_params(options=options)
    assert_same(snapshot(fitted_once), snapshot(model))


@pytest.mark.parametrize("finetune", ["last", "lora", "full"])
def test_finetuning_changes_bert_and_is_saved(
    finetune: str,
    make_recommender: Make,
    events: pd.DataFrame,
    items: pd.DataFrame,
    tiny_bert: str,
    folder: Any,
    options: RunOptions,
) -> None:
    model = make_recommender(
        item_encoder=Fusion([BertEncoder(tiny_bert, finetune=finetune), IdEncoder()]),
        epochs=1,
        batch_size=3,
        learning_rate=1e-2,
        validation_fraction=0,
    )
    start = make_recommender(
        item_encoder=Fusion([BertEncoder(tiny_bert, finetune=finetune), IdEncoder()]), epochs=0
    ).fit(events, items=items)
    model.fit(events, items=items)
    weights = dict(model.item_encoder_.parts[0].bert.named_parameters())
    pretrained = dict(start.item_encoder_.parts[0].bert.named_parameters())
    moved = {n for n, w in weights.items() if not torch.equal(w, pretrained[n])}
    last = {name for name in weights if name.startswith("encoder.layer.1.")}
    if finetune == "last":
        assert moved
        assert moved <= last
    elif finetune == "lora":
        assert moved == {n for n in weights if ".lora_" in n}
    else:
        assert moved & last
        assert any(name.startswith("embeddings.") for name in moved)
    # What is served was read with the weights that were reached.
    part = model.item_encoder_.parts[0]
    again = part._features(part.texts, options, None)
    torch.testing.assert_close(part.features, again, rtol=1e-5, atol=1e-5)
    model.save(folder)
    loaded = Recommender.load(folder, options=options)
    pd.testing.assert_frame_equal(loaded.recommend(k=3), model.recommend(k=3))
    texts = [["i bought a red book"]]
    pd.testing.assert_frame_equal(loaded.recommend(texts=texts), model.recommend(texts=texts))
    loaded.partial_fit(events[:5])
    model.partial_fit(events[:5])
    np.testing.assert_allclose(loaded.item_vectors_, model.item_vectors_, rtol=1e-5, atol=1e-6)


def test_extra_items_join_the_catalogue_where_content_speaks(
    make_recommender: Make, events: pd.DataFrame, items: pd.DataFrame
) -> None:
    with_content = make_recommender(item_encoder="bert+id").fit(events, items=items)
    assert with_content.item_ids_.tolist() == items["item_id"].tolist()
    assert np.isfinite(with_content.item_vectors_).all()
    assert np.linalg.norm(with_content.item_vectors_, axis=1).min() > 0
    # An id encoder has nothing to say about an item without events.
    by_id = make_recommender().fit(events, items=items)
    assert sorted(by_id.item_ids_) == sorted(events["item_id"].unique())


def test_weights_of_events_matter(make_recommender: Make, events: pd.DataFrame) -> None:
    rng = np.random.default_rng(2)
    plain = make_recommender(validation_fraction=0).fit(events)
    ones = make_recommender(validation_fraction=0).fit(events.assign(weight=1.0))
    np.testing.assert_array_equal(plain.item_vectors_, ones.item_vectors_)
    weighted = make_recommender(validation_fraction=0)
    weighted.fit(events.assign(weight=rng.uniform(0.1, 3, len(events))))
    assert not np.array_equal(plain.item_vectors_, weighted.item_vectors_)
    weighted.partial_fit(events[:4].assign(weight=2.0))
    assert np.isfinite(weighted.item_vectors_).all()


def test_weights_of_nothing_teach_nothing(make_recommender: Make, events: pd.DataFrame) -> None:
    model = make_recommender(validation_fraction=0, weight_decay=0).fit(events.assign(weight=0))
    untrained = make_recommender(validation_fraction=0, epochs=0).fit(events)
    np.testing.assert_allclose(model.item_vectors_, untrained.item_vectors_, atol=1e-6)


def test_one_event_is_a_model(make_recommender: Make) -> None:
    model = make_recommender().fit([["a"]])
    assert model.recommend([0], filter_viewed=False)["item_id"].tolist() == ["a"]
    assert model.recommend([0]).empty


PARAMETERS: list[tuple[dict[str, Any], str]] = [
    ({"metric": "l2"}, "metric must be one of 'cosine', 'dot', 'euclidean'; got 'l2'."),
    ({"dim": 0}, "dim must be an integer of at least 1 or 'auto'; got 0."),
    ({"epochs": -1}, "epochs must be an integer of at least 0 or 'auto'; got -1."),
    ({"pretrain_epochs": 1.5}, "pretrain_epochs must be an integer of at least 0; got 1.5."),
    ({"batch_size": 0}, "batch_size must be an integer of at least 1 or 'auto'; got 0."),
    ({"averaging": 0}, "averaging must be a number in (0, inf); got 0."),
    ({"averaging": True}, "averaging must be a number in (0, inf); got True."),
    (
        {"objective": SoftmaxObjective(label_smoothing=1)},
        "label_smoothing must be a number in [0, 1); got 1.",
    ),
    ({"objective": GBCEObjective(t=-1)}, "t must be a number in [0, 1]; got -1."),
    ({"patience": 0}, "patience must be an integer of at least 1; got 0."),
    ({"learning_rate": 0}, "learning_rate must be a number in (0, inf); got 0."),
    ({"learning_rate": float("nan")}, "learning_rate must be a number in (0, inf); got nan."),
    ({"weight_decay": -1}, "weight_decay must be a number in [0, inf); got -1."),
    ({"validation_fraction": 1.2}, "validation_fraction must be a number in [0, 1]; got 1.2."),
    (
        {"options": {"device": "cpu"}},
        "options must be a RunOptions or None; got {'device': 'cpu'}.",
    ),
    (
        {"user_encoder": "lstm"},
        "user_encoder must be one of 'gru', 'transformer', or a spec of that kind; got 'lstm'.",
    ),
    (
        {"user_encoder": GRUEncoder},
        "user_encoder must be one of 'gru', 'transformer', or a spec of that kind; got "
        "<class 'palate.encoders.user.gru.GRUEncoder'>.",
    ),
    (
        {"user_encoder": torch.nn.Linear(2, 2)},
        "user_encoder must be a spec whose build() makes a network, so that fit can start afresh; "
        "got the network Linear itself.",
    ),
    (
        {"ranker": GRUEncoder()},
        "ranker must be one of 'exact', 'approximate', or a spec of that kind; got GRUEncoder() "
        "(it lacks fit, extend, topk).",
    ),
    (
        {"ranker": CosineRanker(metric="dot")},
        "ranker must rank by the metric that is trained, 'cosine'; got one that ranks by 'dot'.",
    ),
    (
        {"objective": "hinge"},
        "objective must be one of 'softmax', 'sampled_softmax', 'gbce', or a spec of that kind; "
        "got 'hinge'.",
    ),
    (
        {"user_encoder": TransformerEncoder(n_heads=3)},
        "n_heads must divide dim=8; got 3.",
    ),
    (
        {"user_encoder": GRUEncoder(pooling="max")},
        "pooling must be one of 'last', 'mean', 'attention'; got 'max'.",
    ),
    (
        {"item_encoder": Fusion([])},
        "encoders must hold at least one item encoder; got none.",
    ),
    (
        {"item_encoder": Fusion([IdEncoder(), "bert"])},
        "encoders[1] must be an item encoder; got 'bert'.",
    ),
]


@pytest.mark.parametrize(("params", "message"), PARAMETERS)
def test_parameters_that_fit_refuses(
    params: dict[str, Any],
    message: str,
    make_recommender: Make,
    events: pd.DataFrame,
    items: pd.DataFrame,
) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        make_recommender(**params).fit(events, items=items)
    assert str(caught.value) == message


def test_options_that_are_refused() -> None:
    with pytest.raises(InvalidParameterError) as caught:
        RunOptions(inference_batch_size=0)
    assert str(caught.value) == "inference_batch_size must be an integer of at least 1; got 0."


EVENT = {"user_id": ["u"], "item_id": ["i"]}
INPUTS: list[tuple[Any, str]] = [
    ([], "X must hold at least one event; got none."),
    ([[], []], "X must hold at least one event; got none."),
    (
        ["ab", "cd"],
        "X must be a table of events or a list of histories, each a list of item ids; "
        "history 0 is 'ab'.",
    ),
    (
        [["a"], 3],
        "X must be a table of events or a list of histories, each a list of item ids; "
        "history 1 is 3.",
    ),
    (
        pd.DataFrame({"user": ["u"], "item_id": ["i"]}),
        "X must have a column 'user_id'; its columns are 'user', 'item_id'.",
    ),
    (pd.DataFrame(EVENT)[:0], "X must hold at least one event; got none."),
    (
        pd.DataFrame({"user_id": ["u", None], "item_id": ["i", "j"]}),
        "column 'user_id' of X must have no missing values; row 1 is nan.",
    ),
    (
        pd.DataFrame({**EVENT, "weight": [-1.0]}),
        "column 'weight' of X must hold finite numbers of at least 0; row 0 is -1.0.",
    ),
    (
        pd.DataFrame({**EVENT, "timestamp": ["soon"]}),
        "column 'timestamp' of X must hold numbers or datetimes; row 0 is 'soon'.",
    ),
]


@pytest.mark.parametrize(("X", "message"), INPUTS)
def test_inputs_that_fit_refuses(X: Any, message: str, make_recommender: Make) -> None:
    with pytest.raises(InvalidInputError) as caught:
        make_recommender().fit(X)
    assert str(caught.value) == message


def test_content_that_is_not_there(
    make_recommender: Make, events: pd.DataFrame, items: pd.DataFrame
) -> None:
    model = make_recommender(item_encoder="bert+id")
    with pytest.raises(MissingContentError) as caught:
        model.fit(events)
    assert str(caught.value) == (
        "items must be given: the item encoder reads the content of items. "
        "Pass items=table, or use item_encoder='id'."
    )
    with pytest.raises(MissingContentError) as caught:
        model.fit(events, items=items[["item_id"]])
    assert str(caught.value) == (
        "items must have a text column (such as 'text' or 'title') for a text encoder; "
        "its columns are none."
    )
    assert not hasattr(model, "_serving")


def test_ids_of_another_type_in_the_item_table(
    make_recommender: Make, events: pd.DataFrame, items: pd.DataFrame
) -> None:
    numbered = events.assign(item_id=[item[1:] for item in events["item_id"]])
    with pytest.raises(MissingContentError) as caught:
        make_recommender(item_encoder="bert").fit(numbered, items=items.assign(item_id=range(13)))
    assert str(caught.value) == (
        "items must have a row for every item of X; row 0 of X names "
        f"{numbered['item_id'][0]!r}, which has none. The ids of X are of type str, those of "
        "items of type int."
    )


def test_what_was_learned_cannot_be_written_to(fitted_once: Recommender) -> None:
    for array in (fitted_once.item_vectors_, fitted_once.item_ids_, fitted_once.user_ids_):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = array[1]


def test_histories_are_known_as_lists_without_asking_every_library(
    make_recommender: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[type] = []
    monkeypatch.setattr(lists, "is_frame", lambda value: bool(asked.append(type(value))))
    model = make_recommender(item_encoder="id").fit([["a", "b"], ("b", "c")] * 9)
    model.recommend(histories=[["a"], ("b",)])
    assert asked == []


def test_parameters_are_set_together_or_not_at_all() -> None:
    model = Recommender(TransformerEncoder(n_layers=1), epochs=3)
    before = model.get_params(deep=False)
    with pytest.raises(ValueError, match="bogus"):
        model.set_params(epochs=7, user_encoder__n_layers=2, ranker__bogus=1)
    assert model.get_params(deep=False) == before
    assert model.user_encoder.n_layers == 1
