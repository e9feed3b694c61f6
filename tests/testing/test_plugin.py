"""The pytest plugin: in this process, and as another project meets it after an installation."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import palate
from palate import Recommender, Text
from palate.baselines import MostPopular
from palate.model_selection import leave_last_out_split
from palate.testing import make_interactions
from palate.testing.fitted import fit_tiny
from palate.testing.plugin import (  # fixtures of this module, so that their lines are measured
    _palate_fitted,
    _palate_tables,
    tiny_bert,
    tiny_interactions,
    tiny_items,
    tiny_recommender,
)

__all__ = [
    "_palate_fitted",
    "_palate_tables",
    "tiny_bert",
    "tiny_interactions",
    "tiny_items",
    "tiny_recommender",
]

SOURCE = Path(palate.__file__).parents[1]
HEAVY = ("torch", "numpy", "pandas", "sklearn", "transformers", "scipy")


def test_the_tables_are_copies(tiny_interactions, tiny_items):
    events, items = make_interactions()
    pd.testing.assert_frame_equal(tiny_interactions, events)
    pd.testing.assert_frame_equal(tiny_items, items)
    tiny_interactions["item_id"] = "gone"
    del tiny_items["title"]


def test_the_tables_are_whole_again(tiny_interactions, tiny_items):
    assert (tiny_interactions["item_id"] != "gone").all()
    assert "title" in tiny_items


def test_every_public_method_works(tiny_recommender, tiny_interactions, tmp_path):
    rec = tiny_recommender
    assert rec.recommend(["u1", "u2"], k=3)["item_id"].size == 6
    assert rec.recommend(histories=[["i0", Text("copper kettle")]], k=2).shape == (2, 4)
    assert rec.recommend(texts=[["a steel pan"]], k=2)["rank"].tolist() == [1, 2]
    rec.add_items(
        pd.DataFrame({"item_id": ["new"], "title": ["iron pan"], "category": ["kitchen"]})
    )
    rec.observe(
        pd.DataFrame(
            {"user_id": ["me"], "item_id": ["new"], "timestamp": pd.to_datetime(["2025-01-01"])}
        )
    )
    rec.partial_fit(tiny_interactions.tail(20), epochs=1)
    rec.save(tmp_path / "model")
    assert "me" in Recommender.load(tmp_path / "model").user_ids_


def test_the_recommender_is_fresh_again(tiny_recommender, tiny_interactions):
    assert "new" not in tiny_recommender.item_ids_
    assert set(tiny_recommender.user_ids_) == set(tiny_interactions["user_id"])
    assert len(tiny_recommender.item_ids_) == 60


def test_it_beats_popularity(tiny_interactions, tiny_items, tiny_bert):
    train, test = leave_last_out_split(tiny_interactions)
    rec = fit_tiny(train, tiny_items, tiny_bert)
    assert rec.score(test) > 1.2 * MostPopular().fit(train).score(test)


def test_the_recommender_learned_tastes(tiny_recommender, tiny_items, tiny_interactions):
    found = tiny_recommender.recommend(k=5, filter_viewed=False).merge(tiny_items, on="item_id")
    own = tiny_interactions.merge(tiny_items, on="item_id")
    favourite = own.groupby("user_id")["category"].agg(lambda seen: seen.value_counts().index[0])
    hits = (found["category"] == found["user_id"].map(favourite)).mean()
    assert hits > 0.55  # a third by chance


def test_it_is_fitted_in_less_than_a_second(tiny_interactions, tiny_items, tiny_bert):
    fit_tiny(tiny_interactions, tiny_items, tiny_bert)  # imports
    start = time.process_time()
    fit_tiny(tiny_interactions, tiny_items, tiny_bert)
    assert time.process_time() - start < 1.0


# ---- another project


@pytest.fixture
def run_pytest(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run pytest in a project of its own, where palate is installed with its entry point."""
    site = tmp_path / "site"
    info = site / "palate-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: palate\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text(entry_points())
    project = tmp_path / "project"
    project.mkdir()
    (project / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\n")

    def run(test: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        (project / "test_mine.py").write_text(test)
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
            cwd=project,
            capture_output=True,
            text=True,
            check=False,
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith(("COV_", "PYTEST_"))},
                "PYTHONPATH": os.pathsep.join([str(site), str(SOURCE)]),
            },
        )

    return run


def entry_points() -> str:
    """Return the plugin's entry point as pyproject.toml declares it."""
    text = (SOURCE.parent / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(r'\[project\.entry-points\.pytest11\]\n(\w+) = "([\w.]+)"', text)
    assert found is not None
    return f"[pytest11]\n{found.group(1)} = {found.group(2)}\n"


def test_starting_pytest_imports_nothing_heavy(run_pytest):
    test = f"""
import sys
def test_start():
    assert "palate.testing.plugin" in sys.modules
    assert [name for name in {HEAVY!r} if name in sys.modules] == []
    ours = sorted(name for name in sys.modules if name.startswith("palate"))
    assert ours == ["palate", "palate.testing", "palate.testing.plugin"]
"""
    done = run_pytest(test, "-p", "no:hypothesispytest", "-p", "no:pytest_cov")
    assert done.returncode == 0, done.stdout


def test_the_fixtures_in_another_project(run_pytest):
    test = """
def test_change(tiny_recommender, tiny_items, tiny_interactions):
    tiny_recommender.observe(tiny_interactions.head(1).assign(user_id="somebody"))
    assert "somebody" in tiny_recommender.user_ids_

def test_fresh(tiny_recommender):
    assert "somebody" not in tiny_recommender.user_ids_
    assert len(tiny_recommender.recommend(["u3"], k=4)) == 4

def test_bert(tiny_bert):
    from palate import BertEncoder
    from palate.testing import check_item_encoder
    check_item_encoder(BertEncoder(tiny_bert))
"""
    done = run_pytest(test, "-W", "error::pytest.PytestWarning")
    assert "3 passed" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0


def test_the_plugin_can_be_switched_off(run_pytest):
    test = """
import sys
def test_off():
    assert "palate" not in sys.modules
def test_asks(tiny_recommender):
    pass
"""
    done = run_pytest(test, "-p", "no:palate")
    assert "fixture 'tiny_recommender' not found" in done.stdout
    assert "1 passed, 1 error" in done.stdout


def test_a_project_may_replace_a_fixture(run_pytest):
    test = """
import pytest
@pytest.fixture
def tiny_items():
    return "mine"
def test_mine(tiny_items):
    assert tiny_items == "mine"
"""
    assert run_pytest(test).returncode == 0


def test_pytest_lists_the_fixtures_with_what_they_give(run_pytest):
    listed = run_pytest("", "--fixtures").stdout
    for name in ("tiny_interactions", "tiny_items", "tiny_recommender", "tiny_bert"):
        assert re.search(rf"^{name}.*palate/testing/plugin\.py", listed, re.MULTILINE), listed
    assert "_palate_tables" not in listed
