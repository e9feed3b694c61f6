from dataclasses import FrozenInstanceError

import pytest
import torch

from palate._options import RunOptions
from palate.exceptions import InvalidParameterError


def test_defaults():
    options = RunOptions()
    assert (options.device, options.progress, options.cache) == ("auto", None, True)
    assert options.inference_batch_size == 1024
    assert options.on_epoch_end is None


@pytest.mark.parametrize(("progress", "right"), [(None, None), (True, False), (False, True)])
def test_progress_is_what_tqdm_calls_not_disabled(progress, right):
    assert RunOptions(progress=progress).hide_progress is right


def test_the_device_is_chosen_when_asked():
    assert RunOptions(device="cpu").torch_device == torch.device("cpu")
    options = RunOptions(device="gpu")
    with pytest.raises(InvalidParameterError):
        _ = options.torch_device


def test_options_do_not_change():
    with pytest.raises(FrozenInstanceError):
        RunOptions().device = "cpu"


def test_a_batch_has_a_row():
    with pytest.raises(InvalidParameterError) as error:
        RunOptions(inference_batch_size=0)
    assert str(error.value) == "inference_batch_size must be an integer of at least 1; got 0."
