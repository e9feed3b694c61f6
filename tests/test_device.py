import pytest
import torch

from palate._device import choose_device
from palate.exceptions import InvalidParameterError


@pytest.mark.parametrize(
    ("cuda", "mps", "right"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
@pytest.mark.parametrize("name", ["auto", None])
def test_auto_takes_the_fastest_there_is(monkeypatch, name, cuda, mps, right):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device(name) == torch.device(right)


@pytest.mark.parametrize("name", ["cpu", torch.device("cpu"), "cpu:0"])
def test_a_device_by_name(name):
    assert choose_device(name).type == "cpu"


@pytest.mark.parametrize("name", ["gpu", "cuda:99", 1.5, ["cpu"]])
def test_a_device_that_is_not_there(name):
    with pytest.raises(InvalidParameterError) as error:
        choose_device(name)
    assert str(error.value).startswith(
        f"device must be 'auto' or a device of this machine such as 'cpu'; got {name!r} ("
    )
    assert "\n" not in str(error.value)
