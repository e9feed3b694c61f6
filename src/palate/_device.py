"""The choice of device."""

from __future__ import annotations

import torch

from palate.exceptions import InvalidParameterError


def choose_device(device: str | torch.device | None) -> torch.device:
    """Return the device that a name stands for.

    Parameters
    ----------
    device : str, torch.device or None
        ``"auto"`` or None takes CUDA, else Apple's MPS, else the CPU.

    Returns
    -------
    torch.device

    Raises
    ------
    InvalidParameterError
        If the name is unknown or that device is not on this machine.

    Examples
    --------
    >>> choose_device("cpu")
    device(type='cpu')
    """
    if device is None or device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, TypeError, AssertionError, NotImplementedError) as error:
        raise InvalidParameterError(
            f"device must be 'auto' or a device of this machine such as 'cpu'; got {device!r} "
            f"({str(error).splitlines()[0]})."
        ) from error
    return chosen
