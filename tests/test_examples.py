"""The examples: they import, and their pieces do on tiny data what they print on real data."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from palate import Recommender, RunOptions, TransformerEncoder
from palate.testing.tiny_bert import make_tiny_bert

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(p.stem for p in EXAMPLES.glob("*.py"))
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
QUIET = RunOptions(device="cpu", progress=False, cache=False)


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module


@pytest.fixture(scope="module")
def shop():
    """Five products, three customers; 'saw' has no sale and 'cy' is new at the end."""
    events = pd.DataFrame(
        {
            "user_id": ["al", "al", "al", "bo", "bo", "bo", "bo", "cy", "cy", "al"],
            "item_id": ["tea", "tea", "jam", "nail", "glue", "nail", "tea", "tea", "jam", "nail"],
            "timestamp": [1, 2, 3, 1, 2, 3, 4, 5, 6, 7],
        }
    )
    items = pd.DataFrame(
        {
            "item_id": ["tea", "jam", "nail", "glue", "saw"],
            "title": ["Tea", "Jam", "Nail", "Glue", "Saw"],
            "text": ["black tea", "red jam", "steel nail", "wood glue", "hand saw"],
        }
    )
    return events, items


@pytest.fixture(scope="module")
def model(shop, tmp_path_factory):
    from palate import BertEncoder, Fusion, IdEncoder

    events, items = shop
    folder = make_tiny_bert(tmp_path_factory.mktemp("bert"))
    return Recommender(
        user_encoder=TransformerEncoder(n_layers=1),
        item_encoder=Fusion([BertEncoder(model=str(folder)), IdEncoder()]),
        dim=8,
        epochs=1,
        validation_fraction=0,
        random_state=0,
        options=QUIET,
    ).fit(events.head(7), items=items[items["item_id"] != "saw"])


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_imports_without_running(name, example, capsys):
    module = example(name)
    assert module.__doc__
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_names_no_path_of_a_machine(name):
    for node in ast.walk(ast.parse((EXAMPLES / f"{name}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert not node.value.startswith("/"), node.value


def test_popular_lists_leave_out_what_was_viewed_and_keep_their_length(example, shop):
    baselines = example("baselines")
    events, _ = shop
    ranked = baselines.popular_items(events)
    assert ranked[0] == "tea"
    table = baselines.recommend_popular(ranked, {"x": ["tea"], "y": ()}, k=2)
    assert table["user_id"].tolist() == ["x", "x", "y", "y"]
    assert table["rank"].tolist() == [1, 2, 1, 2]
    assert table["item_id"].tolist() == [ranked[1], ranked[2], "tea", ranked[1]]


def test_buy_again_puts_a_users_own_items_first_and_repeats_none(example, shop):
    baselines = example("baselines")
    events, _ = shop
    table = baselines.buy_again(events, ["bo", "cy"], k=3)
    bo = table.loc[table["user_id"] == "bo", "item_id"].tolist()
    assert bo[0] == "nail"
    assert set(bo) == {"nail", "glue", "tea"}
    cy = table.loc[table["user_id"] == "cy", "item_id"].tolist()
    assert cy == ["tea", "jam", "nail"]


def test_fusion_by_rank_is_the_sum_of_reciprocal_ranks(example):
    one = pd.DataFrame({"user_id": [1, 1, 1], "item_id": ["a", "b", "c"], "rank": [1, 2, 3]})
    two = pd.DataFrame({"user_id": [1, 2, 1], "item_id": ["c", "d", "b"], "rank": [1, 1, 2]})
    table = example("baselines").fuse([one, two], k=2, damping=0)
    # a: 1; b: 1/2 + 1/2; c: 1/3 + 1; ties keep the order of first appearance.
    assert table.loc[table["user_id"] == 1, "item_id"].tolist() == ["c", "a"]
    assert table.loc[table["user_id"] == 2, ["item_id", "rank"]].to_numpy().tolist() == [["d", 1]]


def test_first_purchases_are_those_no_training_event_names(example, shop):
    events, _ = shop
    train, test = events.head(7), events.tail(3)
    found = example("ecommerce").first_purchases(train, test)
    assert found[["user_id", "item_id"]].to_numpy().tolist() == [
        ["cy", "tea"],
        ["cy", "jam"],
        ["al", "nail"],
    ]
    again = pd.concat([test, train.head(1)])
    assert len(example("ecommerce").first_purchases(train, again)) == 3


def test_chance_agrees_with_a_simulation(example):
    draws = np.random.default_rng(0).random((20_000, 7)).argsort(1)[:, :3]
    simulated = (draws < 2).any(1).mean()
    assert example("ecommerce").chance_hr(7, 2, 3) == pytest.approx(simulated, abs=0.01)


def test_a_replayed_stream_judges_each_day_by_what_came_before(example, shop, model, monkeypatch):
    social = example("social_media")
    events, items = shop
    monkeypatch.setattr(social, "K", 2)
    stream = pd.concat(
        [events.tail(3), pd.DataFrame({"user_id": ["cy"], "item_id": ["saw"], "timestamp": [8]})]
    ).assign(day=[0, 1, 1, 2])
    import copy

    lists, truth = social.replay(copy.deepcopy(model), events.head(7), stream, items)
    # 'cy' is unknown on day 0, known afterwards; 'saw' is never in training.
    assert truth["user_id"].tolist() == ["cy day 1", "al day 1", "cy day 2"]
    assert truth["joined"].tolist() == [True, False, True]
    assert truth["untrained"].tolist() == [False, False, True]
    for name, table in lists.items():
        assert not table.duplicated(["user_id", "item_id"]).any(), name
        assert (table[table["rank"] <= 2].groupby("user_id").size() <= 2).all(), name
    frozen = set(lists[social.FROZEN]["user_id"])
    assert frozen == {"al day 1"}
    assert set(lists[social.OBSERVING]["user_id"]) == {"cy day 1", "al day 1", "cy day 2"}


def test_next_views_are_the_last_events_after_the_cut(example, shop):
    events, _ = shop
    cases = example("online_education").next_views(events, 5)
    assert cases.histories == [["tea", "tea", "jam"], ["tea"]]
    assert cases.truth["item_id"].tolist() == ["nail", "jam"]
    second = cases[[1]]
    assert second.histories == [["tea"]]
    assert second.truth[["user_id", "item_id"]].to_numpy().tolist() == [[0, "jam"]]


def test_the_tables_of_the_school_print_for_any_model(example, shop, model, capsys):
    school = example("online_education")
    events, items = shop
    cases = school.next_views(events, 5)
    school.compare({"bert+id": model}, events.head(7), cases)
    school.from_words({"bert": model, "bert+id": model}, events.head(7), items, cases)
    said = capsys.readouterr().out
    assert "The next view, repeats allowed (2 lists judged)" in said
    assert "The next new course, viewed ones filtered (2 lists judged)" in said


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_a_notebook_was_run_top_to_bottom_without_an_error(path):
    cells = [
        c for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"
    ]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not any(output["output_type"] == "error" for output in outputs)
    assert any("image/png" in output.get("data", {}) for output in outputs)
    for cell in cells:
        source = "".join(cell["source"])
        ast.parse("\n".join(line for line in source.splitlines() if not line.startswith("%")))


def test_run_notebooks_stores_outputs(example, tmp_path):
    pytest.importorskip("nbclient", reason="needs palate[notebook]")
    pytest.importorskip("ipykernel", reason="needs palate[notebook]")
    nbformat = pytest.importorskip("nbformat", reason="needs palate[notebook]")
    path = tmp_path / "one.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("6 * 7")]), path)
    example("run_notebooks").run_notebook(path)
    cell = nbformat.read(path, as_version=4).cells[0]
    assert cell.execution_count == 1
    assert cell.outputs[0]["data"]["text/plain"] == "42"
