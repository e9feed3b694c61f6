"""What every item encoder must do."""

from __future__ import annotations

import copy
from typing import Any

import pandas as pd
import torch

from palate._options import RunOptions
from palate.data.items import ItemTable
from palate.protocols import ItemModule
from palate.testing._rules import all_get_gradients, close, fresh_copy, rule, settings

_LEAST = 4


def check_item_encoder(
    spec: Any,
    items: pd.DataFrame | None = None,
    *,
    dim: int = 8,
    options: RunOptions | None = None,
    random_state: int = 0,
) -> None:
    """Check an item encoder spec: shapes, look-up, growth, saving, determinism, gradients.

    Parameters
    ----------
    spec : ItemEncoder
        It is copied, not changed.
    items : DataFrame, default=None
        Content columns of at least 4 items, without ids; by default 7 short texts.
    dim : int, default=8
        Width to build it for.
    options : RunOptions, default=None
        By default the CPU, silent, without a cache.
    random_state : int, default=0
        Seed of weights; the global state is restored.

    Raises
    ------
    AssertionError
        If a rule is broken; the message says which.

    Examples
    --------
    >>> from palate import IdEncoder
    >>> check_item_encoder(IdEncoder())
    """
    options = options or RunOptions(device="cpu", progress=False, cache=False)
    if items is None:
        items = pd.DataFrame({"text": [f"thing {i} of {i % 3}" for i in range(7)]})
    rule(len(items) >= _LEAST, f"items must be at least {_LEAST}; got {len(items)}")
    table = ItemTable(items.reset_index(drop=True))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random_state)
        module = _check_build(fresh_copy(spec), table, dim, options)
        _check_look_up(module, len(table), dim)
        _check_saving(fresh_copy(spec), module, table, dim, options)
        _check_extend(fresh_copy(spec), table, dim, options)
        if module.takes_text:
            _check_texts(module, dim, options)
        module.train()
        vectors = module(torch.arange(len(table)))
        all_get_gradients(module, (vectors * torch.randn_like(vectors)).sum())


def _check_build(spec: Any, table: ItemTable, dim: int, options: RunOptions) -> ItemModule:
    rule(
        callable(getattr(spec, "build", None)),
        "an item encoder must have the method build(items, dim, context, state=None)",
    )
    before = settings(spec)
    module = spec.build(table, dim, options)
    other = spec.build(table, dim, options)
    rule(isinstance(module, ItemModule), "build must return a palate.protocols.ItemModule")
    shared = {id(p) for p in module.parameters()} & {id(p) for p in other.parameters()}
    rule(not shared, "build must return a fresh module each time")
    rule(settings(spec) == before, "build must not change the spec")
    return module.eval()  # type: ignore[no-any-return]


@torch.no_grad()
def _check_look_up(module: ItemModule, n_items: int, dim: int) -> None:
    whole = module(None)
    shape = (n_items, dim)
    rule(whole.shape == shape, f"the catalogue must have the shape {shape}; got {whole.shape}")
    rule(whole.isfinite().all(), "item vectors must be finite")
    rule(torch.equal(whole, module(None)), "a module in evaluation mode must be deterministic")
    codes = torch.tensor([3, 0, 3])
    rule(close(module(codes), whole[codes]), "items must have the same vector looked up as in all")
    content = module(None, content_only=True)
    rule(content.shape == shape, "content_only must not change the shape")
    rule(
        close(module(codes, content_only=True), content[codes]),
        "content must be the same looked up as in all",
    )


@torch.no_grad()
def _check_saving(
    spec: Any, module: ItemModule, table: ItemTable, dim: int, options: RunOptions
) -> None:
    state = {name: value.clone() for name, value in module.state_dict().items()}
    restored = spec.build(table, dim, options, state)
    rule(restored.state_dict().keys() == state.keys(), "build with a state must need its tensors")
    restored.load_state_dict(state)
    good = torch.equal(restored.eval()(None), module(None))
    rule(good, "a module must give equal vectors after its tensors were saved and loaded")


@torch.no_grad()
def _check_extend(spec: Any, table: ItemTable, dim: int, options: RunOptions) -> None:
    n_old, n_all = len(table) - 2, len(table)
    module = spec.build(ItemTable(table.frame[:n_old]), dim, options).eval()
    before = module(None)
    grown = copy.deepcopy(module)
    # One of the two new items was never trained on.
    seen = torch.ones(n_all, dtype=torch.bool)
    seen[-1] = False
    grown.extend(table, seen, options)
    after = grown(None)
    rule(torch.equal(module(None), before), "extend must not change the module it was copied from")
    rule(after.shape == (n_all, dim), "extend must make room for every row")
    rule(close(after[:n_old], before), "extend must leave the vectors of known items")
    if not module.has_content:
        silent = close(after[-1], torch.zeros(dim))
        rule(silent, "an item without content that was never trained on must have the zero vector")
    grown.extend(table, seen, options)
    rule(torch.equal(grown(None), after), "extending by no row must change nothing")


@torch.no_grad()
def _check_texts(module: ItemModule, dim: int, options: RunOptions) -> None:
    texts = ["a red lamp", "a book", "a red lamp"]
    vectors = module.encode_texts(texts, options)
    rule(vectors.shape == (len(texts), dim), "encode_texts must give one vector a text")
    rule(close(vectors[0], vectors[2]), "equal texts must have equal vectors")
    alone = module.encode_texts(texts[1:2], options)
    rule(close(alone[0], vectors[1], 1e-3), "a text must have the same vector alone as in a batch")
    own = module.content(torch.arange(1))
    if own is not None:
        told = module.hear_texts(texts, options)[1]
        rule(
            told is not None and told.shape == (len(texts), own.shape[1]),
            "hear_texts must tell the content of texts where content tells that of items",
        )
    if type(module).read_texts is not ItemModule.read_texts:
        _check_two_steps(module, texts, vectors, options)


def _check_two_steps(
    module: ItemModule, texts: list[str], vectors: torch.Tensor, options: RunOptions
) -> None:
    read = module.read_texts(texts, options)
    shape = (len(texts), module.text_width)
    rule(read.shape == shape, f"read_texts must have the shape {shape}; got {tuple(read.shape)}")
    rule(not read.requires_grad, "read_texts must return what training does not change")
    rule(
        close(module.place_texts(read), vectors, 1e-3),
        "place_texts of what read_texts has read must be encode_texts",
    )
