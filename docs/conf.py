"""Settings of the documentation: built offline, warnings are errors."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "src"))

import palate  # noqa: E402

# The notebook lives with the examples; the site shows a copy of it with its stored outputs.
(HERE / "notebooks").mkdir(exist_ok=True)
for notebook in (HERE.parent / "examples").glob("*.ipynb"):
    shutil.copy2(notebook, HERE / "notebooks" / notebook.name)

project = "palate"
author = "the palate developers"
copyright = "the palate developers, BSD-3-Clause"
version = release = palate.__version__

templates_path = ["_templates"]
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_nb",
]
exclude_patterns = ["_build", "**/.ipynb_checkpoints"]

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
myst_update_mathjax = False
html_math_renderer = "mathml"
nb_execution_mode = "off"

autosummary_generate = True
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

html_theme = "pydata_sphinx_theme"
html_title = f"palate {release}"
html_static_path = ["_static"]
html_css_files = ["palate.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "show_toc_level": 2,
    "header_links_before_dropdown": 6,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
}


def skip_request_methods(app, what, name, obj, skip, options):
    """Leave out what scikit-learn generates on every estimator: it links into its own site."""
    return True if name.startswith("set_") and name.endswith("_request") else skip


def write_math(self, node):
    """Write a formula as MathML, which browsers draw without a script from another site."""
    self.body.append(tex2mathml(node.astext(), as_block=False))
    raise nodes.SkipNode


def write_math_block(self, node):
    """Write a formula on lines of its own."""
    self.body.append(f'<div class="formula">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def drop_mail_links(app, doctree):
    """Undo docutils' reading of NDCG@10 as a mail address."""
    for link in list(doctree.findall(nodes.reference)):
        if link.get("refuri", "").startswith("mailto:"):
            link.replace_self(nodes.Text(link.astext()))


def setup(app):
    app.connect("autodoc-skip-member", skip_request_methods)
    app.connect("doctree-read", drop_mail_links)
    app.add_html_math_renderer("mathml", (write_math, None), (write_math_block, None))
