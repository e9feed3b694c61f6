"""People of whom nothing is known: what is popular, asked for by name."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from palate import Recommender, Text
from palate.exceptions import InvalidParameterError, UnsupportedTargetError

Make = Callable[..., Recommender]


def shares_of(frame: pd.DataFrame, catalogue: list[str]) -> pd.Series:
    """Shares of all events, ties in catalogue order."""
    counts = frame["item_id"].value_counts().reindex(catalogue, fill_value=0)
    return (counts / counts.sum()).sort_values(ascending=False, kind="stable")


def popular(model: Recommender, k: int = 4, **query: Any) -> pd.DataFrame:
    return model.recommend(k=k, on_unsupported_targets="popular", **query)


def test_an_empty_history_gets_the_shares_of_all_events(
    fitted_once: Recommender, events: pd.DataFrame
) -> None:
    expected = shares_of(events, fitted_once.item_ids_.tolist())[:4]
    found = popular(fitted_once, histories=[[]])
    assert found["item_id"].tolist() == expected.index.tolist()
    np.testing.assert_allclose(found["score"], expected, rtol=1e-6)
    assert found["rank"].tolist() == [1, 2, 3, 4]
    assert found.dtypes.equals(fitted_once.recommend(histories=[["i1"]]).dtypes)


def test_known_people_get_what_they_got_and_places_stay(fitted_once: Recommender) -> None:
    found = popular(fitted_once, users=["u3", "nobody", "u0", "somebody"])
    plain = fitted_once.recommend(["u3", "u0"], k=4)
    assert found["user_id"].unique().tolist() == ["u3", "nobody", "u0", "somebody"]
    kept = found[found["user_id"].isin(["u3", "u0"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, plain)
    new = [
        found.loc[found["user_id"] == user, "item_id"].tolist() for user in ("nobody", "somebody")
    ]
    assert new[0] == new[1] == popular(fitted_once, histories=[[]])["item_id"].tolist()


def test_unknown_items_are_skipped_and_the_rest_speaks(fitted_once: Recommender) -> None:
    found = popular(fitted_once, histories=[["zz", "i1"], ["zz"], [Text("a red lamp")], []])
    apart = fitted_once.recommend(histories=[["i1"], [Text("a red lamp")]], k=4)
    assert found["user_id"].unique().tolist() == [0, 1, 2, 3]
    items = found["item_id"].to_numpy().reshape(4, 4)
    assert items[[0, 2]].tolist() == apart["item_id"].to_numpy().reshape(2, 4).tolist()
    assert items[1].tolist() == items[3].tolist()


def test_texts_without_words_are_popular_too(fitted_once: Recommender) -> None:
    found = popular(fitted_once, texts=[[], ["a red lamp"]])
    assert found["user_id"].unique().tolist() == [0, 1]
    with pytest.raises(UnsupportedTargetError) as caught:
        fitted_once.recommend(texts=[[]], on_unsupported_targets="ignore")
    assert str(caught.value) == (
        "history 0 is empty: it says nothing about taste. "
        "Pass on_unsupported_targets='popular' to answer it by what is popular."
    )


def test_filters_hold_for_what_is_popular(fitted_once: Recommender, events: pd.DataFrame) -> None:
    order = shares_of(events, fitted_once.item_ids_.tolist()).index.tolist()
    found = popular(fitted_once, histories=[[]], items_to_exclude=[order[0], order[2]], k=2)
    assert found["item_id"].tolist() == [order[1], order[3]]
    found = popular(fitted_once, histories=[[]], items_to_recommend=[order[5], order[2]])
    assert found["item_id"].tolist() == [order[2], order[5]]
    assert len(popular(fitted_once, histories=[[]], k=50)) == 13


@pytest.mark.parametrize("asked_before", [True, False])
def test_what_is_observed_counts_at_once(
    model: Recommender, events: pd.DataFrame, asked_before: bool
) -> None:
    if asked_before:
        popular(model, histories=[[]])
    new = pd.DataFrame({"user_id": "u9", "item_id": ["i12"] * 20, "timestamp": range(50, 70)})
    model.observe(new)
    expected = shares_of(pd.concat([events, new]), model.item_ids_.tolist())[:3]
    found = popular(model, histories=[[]], k=3)
    assert found["item_id"].tolist() == expected.index.tolist()
    np.testing.assert_allclose(found["score"], expected, rtol=1e-6)


def test_a_new_item_comes_last_until_somebody_wants_it(model: Recommender) -> None:
    popular(model, histories=[[]])
    model.add_items(pd.DataFrame({"item_id": ["new"], "title": ["green book"]}))
    assert popular(model, histories=[[]], k=14)["item_id"].tolist()[-1] == "new"
    model.observe(pd.DataFrame({"user_id": "u9", "item_id": ["new"] * 30, "timestamp": 60}))
    assert popular(model, histories=[[]], k=1)["item_id"].tolist() == ["new"]


def test_it_learns_on_and_is_saved(model: Recommender, tmp_path: Any, items: Any) -> None:
    more = pd.DataFrame({"user_id": "u9", "item_id": ["i7"] * 30, "timestamp": range(30)})
    popular(model, histories=[[]])
    model.partial_fit(more, items=items, epochs=1)
    assert popular(model, histories=[[]], k=1)["item_id"].tolist() == ["i7"]
    model.save(tmp_path / "model")
    loaded = Recommender.load(tmp_path / "model", options=model.options)
    query = {"users": ["u1", "nobody"]}
    pd.testing.assert_frame_equal(popular(loaded, **query), popular(model, **query))


def test_numbers_stay_numbers(make_recommender: Make) -> None:
    model = make_recommender().fit([["a", "b"], ["b", "c"], ["b"]])
    found = popular(model, users=[7, 1], k=1)
    assert found["user_id"].tolist() == [7, 1]
    assert found["user_id"].dtype == np.int64
    assert found["item_id"].tolist()[0] == "b"


def test_only_recommend_answers_by_popularity(fitted_once: Recommender) -> None:
    model = copy.copy(fitted_once)
    event = pd.DataFrame({"user_id": ["u0"], "item_id": ["i0"], "timestamp": [60]})
    for ask in (
        lambda: model.observe(event, on_unsupported_targets="popular"),
        lambda: model.recommend_to_items(["i0"], on_unsupported_targets="popular"),
    ):
        with pytest.raises(InvalidParameterError) as caught:
            ask()
        assert str(caught.value) == (
            "on_unsupported_targets must be one of 'raise', 'warn', 'ignore'; got 'popular'."
        )


def test_what_is_popular_depends_on_nobody_who_asked_before(
    make_recommender: Callable[..., Recommender], folder: Any
) -> None:
    """The half-life is chosen where the model learns: here from too few events to have one."""
    rng = np.random.default_rng(0)

    def span(n: int, start: int, items: list[str]) -> pd.DataFrame:
        people, things = rng.integers(0, 99, n), rng.choice(items, n)
        return pd.DataFrame(
            {"user_id": people, "item_id": things, "timestamp": start + np.arange(n)}
        )

    early = pd.concat([span(900, 0, ["old", "old2"]), span(60, 900, ["new", "new2"])])
    later = span(600, 1000, ["new", "new", "new2"])
    asked: dict[str, Any] = {"users": ["nobody"], "k": 4, "on_unsupported_targets": "popular"}
    model = make_recommender().fit(early)
    twin = copy.deepcopy(model)
    model.recommend(**asked)
    model.observe(later)
    twin.observe(later)
    model.save(folder)
    first, second, third = (
        m.recommend(**asked) for m in (model, twin, Recommender.load(folder, options=model.options))
    )
    pd.testing.assert_frame_equal(first, second)
    pd.testing.assert_frame_equal(first, third)
    # Learning on chooses anew, from all of it.
    before = model._serving.learning.half_life
    model.partial_fit(span(40, 1700, ["new"]), epochs=1)
    assert before is None
    assert model._serving.learning.half_life is not None
