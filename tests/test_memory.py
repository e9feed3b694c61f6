import ctypes
import sys

import pytest

from palate import _memory
from palate._memory import give_back_memory


@pytest.fixture(autouse=True)
def found_anew():
    _memory._trim.cache_clear()
    yield
    _memory._trim.cache_clear()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs glibc")
def test_it_asks_the_c_library_for_all_of_it(monkeypatch):
    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("the C library is not glibc")
    assert isinstance(give_back_memory(), bool)
    asked = []
    monkeypatch.setattr(_memory, "_trim", lambda: lambda pad: asked.append(pad) or 1)
    assert give_back_memory() is True
    assert asked == [0]
    monkeypatch.undo()


@pytest.mark.parametrize("error", [AttributeError, OSError, TypeError])
def test_another_c_library_gives_nothing_back(monkeypatch, error):
    def lacking(name):
        raise error

    monkeypatch.setattr(ctypes, "CDLL", lacking)
    assert give_back_memory() is False
