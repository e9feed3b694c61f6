import sys

import pytest

from palate._optional import require


def test_what_is_installed_is_returned():
    assert require("xml.dom", extra="any") is sys.modules["xml.dom"]


@pytest.mark.parametrize(
    ("purpose", "start"),
    [("", "This needs"), ("An approximate ranker", "An approximate ranker needs")],
)
def test_what_is_missing_is_named_with_the_pip_line(monkeypatch, purpose, start):
    monkeypatch.setitem(sys.modules, "faiss", None)  # as if it were not installed
    for module in ("faiss", "faiss.contrib"):
        with pytest.raises(ImportError) as error:
            require(module, extra="ann", purpose=purpose)
        assert str(error.value) == (
            f"{start} the package 'faiss', which is not installed. "
            "Install it with: pip install 'palate[ann]'"
        )
        assert isinstance(error.value.__cause__, ImportError)
