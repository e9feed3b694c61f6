import importlib.util
import sys
import textwrap
import warnings

import numpy as np
import pytest

from palate._validation import check_choice, check_int, check_real, check_verbs, warn_caller
from palate.exceptions import InvalidParameterError


def message(call, *args, **kwargs):
    with pytest.raises(InvalidParameterError) as error:
        call(*args, **kwargs)
    return str(error.value)


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_integers_of_any_width(value):
    out = check_int("k", value, minimum=3)
    assert out == 3
    assert type(out) is int


@pytest.mark.parametrize("value", [2, True, np.True_, 3.0, "3", None, np.nan])
def test_what_is_no_integer(value):
    assert message(check_int, "k", value, minimum=3) == (
        f"k must be an integer of at least 3; got {value!r}."
    )


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float32(0.5), np.int8(1)])
def test_numbers_inside_a_closed_interval(value):
    out = check_real("share", value, low=0, high=1)
    assert out == value
    assert type(out) is float


@pytest.mark.parametrize("value", [-1e-9, 1.1, np.nan, np.inf, True, "0.5", None, 1j])
def test_numbers_outside_of_it(value):
    assert message(check_real, "share", value, low=0, high=1) == (
        f"share must be a number in [0, 1]; got {value!r}."
    )


def test_open_ends():
    assert message(check_real, "rate", 0, low=0, high=1, low_open=True) == (
        "rate must be a number in (0, 1]; got 0."
    )
    assert message(check_real, "rate", 1, low=0, high=1, high_open=True) == (
        "rate must be a number in [0, 1); got 1."
    )
    assert check_real("rate", 1e-9, low=0, high=1, low_open=True, high_open=True) == 1e-9
    assert check_real("rate", -1e300) == -1e300


def test_choices():
    assert check_choice("metric", "dot", ["cosine", "dot"]) == "dot"
    assert check_choice("split", None, [None, 3]) is None
    assert message(check_choice, "metric", "l2", ("cosine", "dot")) == (
        "metric must be one of 'cosine', 'dot'; got 'l2'."
    )


class Part:
    def fit(self):
        pass

    topk = 3


def test_verbs():
    part = Part()
    assert check_verbs("ranker", part, ("fit",), "a ranker") is part
    got = repr(part)
    assert message(check_verbs, "ranker", part, ("fit", "topk", "go"), "a ranker") == (
        f"ranker must be a ranker; got {got} (it lacks topk, go)."
    )
    assert message(check_verbs, "ranker", "exakt", ("fit",), "a ranker") == (
        "ranker must be a ranker; got 'exakt'."
    )
    assert message(check_verbs, "ranker", Part, ("fit",), "a ranker") == (
        f"ranker must be a ranker; got {Part!r}."
    )


def test_warnings_point_at_the_caller(tmp_path, monkeypatch):
    # A module inside the package, two calls deep, warns at the line of this file.
    path = tmp_path / "deep.py"
    path.write_text(
        textwrap.dedent(
            """
            from palate._validation import warn_caller
            def outer():
                inner()
            def inner():
                warn_caller("Look here.", UserWarning)
            """
        )
    )
    spec = importlib.util.spec_from_file_location("palate.deep", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "palate.deep", module)
    spec.loader.exec_module(module)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        module.outer()
        warn_caller("And here.", UserWarning)
    assert [str(w.message) for w in caught] == ["Look here.", "And here."]
    assert {w.filename for w in caught} == {__file__}
