"""What is read of items: their content where there is any, else their vectors."""

from __future__ import annotations

import pytest
import torch

from palate._random import ModuleSeed
from palate.data.items import ItemTable
from palate.encoders.item.fusion import Fusion
from palate.encoders.item.ids import IdEncoder
from palate.protocols import ItemModule
from palate.reranking.content import content_of, content_of_texts

N, DIM, WIDTH = 5, 3, 4


class Told(ItemModule):
    """Vectors, and content of another width."""

    has_content = takes_text = True

    def __init__(self, reads=True):
        super().__init__()
        self.reads = reads
        self.register_buffer("rows", torch.arange(1.0, N * DIM + 1).view(N, DIM))
        self.register_buffer("known", torch.arange(2.0, N * WIDTH + 2).view(N, WIDTH))

    def forward(self, codes=None, *, content_only=False):
        rows = self.rows if content_only else 10 * self.rows
        return rows if codes is None else rows[codes]

    def content(self, codes=None):
        return (self.known if codes is None else self.known[codes]) if self.reads else None

    def hear_texts(self, texts, context):
        return torch.ones(len(texts), DIM), 2 * torch.ones(
            len(texts), WIDTH
        ) if self.reads else None


def unit(rows):
    return rows / rows.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("reads", [True, False])
def test_content_or_vectors_of_length_one(reads):
    items = Told(reads)
    right = unit(items.known if reads else items.rows)
    torch.testing.assert_close(content_of(items), right)
    codes = torch.tensor([3, 0, 3])
    torch.testing.assert_close(content_of(items, codes), right[codes])
    texts = content_of_texts(items, ["a", "b"], None)
    torch.testing.assert_close(texts, torch.full((2, right.shape[1]), right.shape[1] ** -0.5))


def test_ids_stand_for_content_and_pass_on_no_gradient():
    with ModuleSeed(0):
        table = ItemTable.without_content(N)
        items = Fusion([IdEncoder()]).build(table, DIM, None)
    found = content_of(items)
    torch.testing.assert_close(found, unit(items(None).detach()))
    assert not found.requires_grad
