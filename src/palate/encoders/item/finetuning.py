"""Which parameters of a pretrained text model are trained."""

from __future__ import annotations

from torch import nn

from palate._validation import check_choice
from palate.encoders.item.low_rank import add_low_rank
from palate.exceptions import InvalidParameterError

FINETUNE_MODES = ("frozen", "last", "lora", "full")


def set_trainable(model: nn.Module, mode: str, *, rank: int = 8) -> list[nn.Parameter]:
    """Choose which parameters of a text model are trained.

    Parameters
    ----------
    model : torch.nn.Module
        The model; the ``requires_grad`` of all its parameters is set.
    mode : {"frozen", "last", "lora", "full"}
        Nothing, the last transformer layer alone, low-rank updates that are put into all attention
        layers (:func:`palate.encoders.item.low_rank.add_low_rank`), or everything.
    rank : int, default=8
        Of the low-rank updates.

    Returns
    -------
    list of torch.nn.Parameter
        The parameters that are trained, for the optimiser.

    Raises
    ------
    InvalidParameterError
        If `mode` is another word, "last" is asked of a model without a list of layers, or "lora"
        of one without projections to queries and values.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(2, 2), nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 3)]))
    >>> [tuple(p.shape) for p in set_trainable(net, "last")]
    [(3, 2), (3,)]
    """
    check_choice("finetune", mode, FINETUNE_MODES)
    model.requires_grad_(mode == "full")
    if mode == "last":
        _layers(model)[-1].requires_grad_(True)
    elif mode == "lora":
        add_low_rank(model, rank)
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _layers(module: nn.Module) -> nn.ModuleList:
    """Find the stack of transformer layers: the last list of modules that no other list holds."""
    for path in ("encoder.layer", "transformer.layer"):  # BERT and its kin; DistilBERT
        try:
            found = module.get_submodule(path)
        except AttributeError:
            continue
        if isinstance(found, nn.ModuleList) and len(found):
            return found
    outermost: list[tuple[str, nn.ModuleList]] = []
    for name, child in module.named_modules():
        inside = any(name.startswith(f"{other}.") for other, _ in outermost)
        if isinstance(child, nn.ModuleList) and len(child) and not inside:
            outermost.append((name, child))
    if not outermost:
        raise InvalidParameterError(
            "finetune must be 'frozen' or 'full' for a model without a list of layers; "
            f"got 'last' for {type(module).__name__}."
        )
    return outermost[-1][1]
