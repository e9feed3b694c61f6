import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from palate.data.items import Items, ItemTable, read_items
from palate.data.knowledge import FACTS, TOLD, KnowledgeGraph
from palate.exceptions import InvalidInputError, InvalidParameterError

TRIPLES = [
    ["f1", "film.directed_by", "ann"],
    ["f1", "film.genre", "drama"],
    ["f2", "film.genre", "drama"],
    ["f1", "film.actor", "bob"],
    ["f3", "film.actor", "bob"],
    ["f1", "film.actor", "cid"],
    ["f3", "film.actor", "cid"],
    ["f2", "film.actor", "cid"],
    ["f1", "film.actor", "dan"],
    ["f1", "film.actor", "eve"],
    ["f1", "film.genre", "drama"],
    ["drama", "film.part_of", "fiction"],
]
LINKS = [[10, "f1"], [20, "f2"], [30, "f3"], [40, "nowhere"], [99, "f1"]]
IDS = np.array([20, 10, 50, 40])


def triples(make=pd.DataFrame, rows=TRIPLES):
    names = ("head", "relation", "tail")
    return make({name: [row[place] for row in rows] for place, name in enumerate(names)})


def links(make=pd.DataFrame):
    return make({name: [row[i] for row in LINKS] for i, name in enumerate(["item_id", "entity"])})


def message(error_type, call, *args, **kwargs):
    with pytest.raises(error_type) as error:
        call(*args, **kwargs)
    return str(error.value)


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
def test_facts_come_by_how_many_triples_share_them(make):
    columns = KnowledgeGraph(triples(make), links(make)).columns_for(IDS)
    assert columns[FACTS] == [
        ["film.genre\tdrama", "film.actor\tcid"],
        # drama and cid end 3 triples, bob 2, the others 1, in the order given.
        [
            *("film.genre\tdrama", "film.actor\tcid", "film.actor\tbob"),
            *("film.directed_by\tann", "film.actor\tdan", "film.actor\teve"),
        ],
        [],
        [],
    ]
    assert columns[TOLD] == [
        "genre drama; actor cid",
        "directed by ann; genre drama; actor cid, bob, dan",
        "",
        "",
    ]


def test_as_many_facts_as_asked_for_the_nearest_first():
    few = KnowledgeGraph(triples(), links(), max_facts=2, n_hops=2).columns_for(IDS)
    assert few[FACTS][1] == ["film.genre\tdrama", "film.actor\tcid"]
    far = KnowledgeGraph(triples(), links(), n_hops=2).columns_for(IDS)
    assert far[FACTS][0] == ["film.genre\tdrama", "film.actor\tcid", "film.part_of\tfiction"]
    assert KnowledgeGraph(triples(), links(), n_hops=9).columns_for(IDS) == far


def test_a_circle_of_triples_ends():
    graph = KnowledgeGraph(triples(rows=[["a", "next", "b"], ["b", "next", "a"]]), n_hops=5)
    found = graph.columns_for(np.array(["a"], dtype=object))[FACTS]
    assert found == [["next\tb", "next\ta"]]


def test_a_taxonomy_is_one_relation_over_item_ids():
    rows = [["boot", "in", "shoes"], ["shoes", "in", "clothes"], ["clothes", "in", "all"]]
    graph = KnowledgeGraph(triples(rows=rows), n_hops=3)
    columns = graph.columns_for(np.array(["hat", "boot"], dtype=object))
    assert columns[FACTS] == [[], ["in\tshoes", "in\tclothes", "in\tall"]]
    assert columns[TOLD] == ["", "in shoes, clothes, all"]


def test_names_and_words_choose_what_is_told():
    graph = KnowledgeGraph(
        triples(),
        links(),
        names={"ann": "Ann Lee", "bob": "Bob", "drama": "drama", "eve": "Eve"},
        relations={"film.actor": "starring", "film.directed_by": "directed by"},
    )
    assert graph.columns_for(IDS)[TOLD] == ["", "starring Bob, Eve; directed by Ann Lee", "", ""]
    graph.max_told = 2
    assert graph.columns_for(IDS)[TOLD][1] == "starring Bob, Eve"
    graph.max_told = 0
    assert graph.columns_for(IDS)[TOLD] == [""] * 4
    silent = KnowledgeGraph(triples(), links(), names={}).columns_for(IDS)
    assert silent[TOLD] == [""] * 4
    assert [len(facts) for facts in silent[FACTS]] == [2, 6, 0, 0]


def test_what_an_item_gets_does_not_depend_on_the_others():
    graph = KnowledgeGraph(triples(), links(), n_hops=2)
    together = graph.columns_for(IDS)
    for place, item in enumerate(IDS):
        alone = graph.columns_for(np.array([item]))
        assert {name: values[0] for name, values in alone.items()} == {
            name: values[place] for name, values in together.items()
        }


def test_what_is_refused():
    def columns(*args, **params):
        return KnowledgeGraph(*args, **params).columns_for(IDS)

    assert message(InvalidInputError, columns, pd.DataFrame({"head": [1], "tail": [2]})) == (
        "triples must have a column 'relation'; its columns are 'head', 'tail'."
    )
    assert message(InvalidInputError, columns, [1, 2]) == (
        "triples must be a pandas, polars or pyarrow table; got list."
    )
    assert message(InvalidInputError, columns, triples()[:0]) == (
        "triples must hold at least one triple; got none."
    )
    assert message(InvalidInputError, columns, triples(), pd.DataFrame({"item_id": [1]})) == (
        "links must have a column 'entity'; its columns are 'item_id'."
    )
    missing = triples(pl.DataFrame, rows=[["a", "b", "c"], ["a", "b", None]])
    assert message(InvalidInputError, columns, missing) == (
        "column 'tail' of triples must have no missing values; row 1 is None."
    )
    for name in ("n_hops", "max_facts"):
        assert message(InvalidParameterError, columns, triples(), **{name: 0}) == (
            f"{name} must be an integer of at least 1; got 0."
        )
    assert message(InvalidParameterError, columns, triples(), max_told=-1) == (
        "max_told must be an integer of at least 0; got -1."
    )
    assert message(InvalidInputError, columns, triples(), names=["ann"]) == (
        "names must map ids to texts; got list."
    )
    assert message(InvalidInputError, columns, triples(), names={"ann": 3}) == (
        "names must map ids to texts without lone surrogates; 'ann' is mapped to 3."
    )
    few = triples(rows=TRIPLES[:2])
    assert message(InvalidInputError, columns, few, relations={"genre": "genre"}) == (
        "relations must name relations of the triples; got 'genre', and they are "
        "'film.directed_by', 'film.genre'."
    )


def test_items_carry_it_into_their_table():
    graph = KnowledgeGraph(triples(), links())
    frame = pd.DataFrame({"item_id": [20, 50], "title": ["Two", "Five"], "text": ["two", "five"]})
    ids, table = read_items(Items(frame, knowledge=graph))
    assert ids.tolist() == [20, 50]
    assert table.text_columns() == ["text", TOLD]
    assert table.texts() == ["two. genre drama; actor cid", "five"]
    _, bare = read_items(Items(frame[["item_id"]], knowledge=graph))
    assert list(bare.frame.columns) == [FACTS, TOLD]
    assert bare.texts() == ["genre drama; actor cid", ""]
    titled = ItemTable(table.frame.drop(columns="text"))
    assert titled.texts() == ["Two. genre drama; actor cid", "Five"]
    assert message(InvalidInputError, read_items, Items(frame, triples())) == (
        "knowledge of items must be a KnowledgeGraph; got DataFrame."
    )


def test_items_learned_later_need_a_graph_too():
    frame = pd.DataFrame({"item_id": [20, 50], "text": ["two", "five"]})
    _, known = read_items(Items(frame, knowledge=KnowledgeGraph(triples(), links())))
    _, plain = read_items(frame)
    assert message(InvalidInputError, known.concatenate, plain) == (
        "items must come with a knowledge graph, as in Items(table, knowledge=graph), for the "
        "items learned before did."
    )
    assert len(known.concatenate(known)) == 4
    assert list(plain.concatenate(known).frame.columns) == ["text"]


def test_a_tab_in_a_relation_is_refused():
    graph = KnowledgeGraph(
        pd.DataFrame([["a", "made\tby", "b"]], columns=["head", "relation", "tail"])
    )
    with pytest.raises(InvalidInputError) as caught:
        graph.columns_for(np.array(["a"], dtype=object))
    assert str(caught.value) == "relation of triples must be without tabs; got 'made\\tby'."


def test_hubs_give_what_reading_everything_gives():
    rng = np.random.default_rng(0)
    heads, tails = rng.integers(0, 12, 90), rng.integers(0, 12, 90)
    rows = [[f"e{h}", f"r{h % 2}", f"e{t}"] for h, t in zip(heads, tails, strict=True)]
    ids = np.array([f"e{i}" for i in range(0, 12, 2)], dtype=object)
    counts = {tail: sum(row[2] == tail for row in rows) for tail in {row[2] for row in rows}}
    for n_hops, max_facts in ((1, 3), (2, 2), (3, 9), (2, 64)):
        found = KnowledgeGraph(triples(rows=rows), n_hops=n_hops, max_facts=max_facts).columns_for(
            ids
        )
        for row, item in enumerate(ids):
            facts, reached = [], {item}
            for _ in range(n_hops):
                step = [
                    (-counts[t], order, r, t)
                    for order, (h, r, t) in enumerate(rows)
                    if h in reached
                ]
                for *_, relation, tail in sorted(step):
                    if f"{relation}\t{tail}" not in facts:
                        facts.append(f"{relation}\t{tail}")
                reached = {tail for *_, tail in step}
            assert found[FACTS][row] == facts[:max_facts]


def test_triples_turned_round_do_not_join_everything():
    n = 20_000
    items, genres = [f"m{i}" for i in range(n)], [f"g{i % 4}" for i in range(n)]
    table = pd.DataFrame(
        {"head": items + genres, "relation": ["in"] * n + ["has"] * n, "tail": genres + items}
    )
    facts = KnowledgeGraph(table, n_hops=2, max_facts=3).facts_of(np.array(items, dtype=object))
    assert facts.groupby("row").size().eq(3).all()  # 100 million pairs, if all were joined
