"""benchmarks/ablations.py: every variant is one that fits, and the table is of paired seeds."""

from __future__ import annotations

from pathlib import Path

import pytest
from sklearn.base import clone

from palate import Recommender
from palate.plan import plan_of

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def ablations(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import ablations

    return ablations


def test_every_variant_changes_what_it_names_and_nothing_else(ablations):
    base = Recommender().get_params()
    seen = set()
    for params in ablations.VARIANTS.values():
        model = Recommender().set_params(**params)
        plan_of(model)
        found = clone(model).get_params()
        assert {name: found[name] for name in params if name != "objective"} == {
            name: value for name, value in params.items() if name != "objective"
        }
        named = {name.split("__")[0] for name in params}
        others = [name for name in base if name.split("__")[0] not in named]
        assert [repr(found[name]) for name in others] == [repr(base[name]) for name in others]
        seen.add(repr(sorted(params.items())))
    assert len(seen) == len(ablations.VARIANTS)


def test_what_is_slow_runs_only_where_it_is_named(ablations, monkeypatch):
    monkeypatch.setattr("sys.argv", ["ablations.py", "folder"])
    assert set(ablations.VARIANTS) - set(ablations.parse().only) == {"last", "lora"}
    monkeypatch.setattr("sys.argv", ["ablations.py", "folder", "--only", "lora"])
    assert ablations.parse().only == ["lora"]


def test_the_table_pairs_seeds(ablations, capsys):
    rows = [
        {"variant": v, "seed": s, "validation": x, "ndcg": x / 2, "hr": 2 * x, "seconds": 7}
        for v, s, x in [
            ("base", 0, 0.2),
            ("base", 1, 0.3),
            ("gate", 0, 0.25),
            ("gate", 1, 0.36),
            ("gate", 2, 0.9),
        ]
    ]
    ablations.print_table("tiny", rows)
    lines = capsys.readouterr().out.splitlines()
    assert "| base | 0.2500 ± 0.0500 | 0.1250 ± 0.0250 | 0.5000 ± 0.1000 |" in lines[-2]
    # The differences are 0.05 and 0.06; the third seed has no base to be compared with.
    assert "| +0.0550 ± 0.0050 | +0.0275 ± 0.0025 | 7 s | 3 |" in lines[-1]
