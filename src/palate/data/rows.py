"""A mapping of numbers that is never changed in place, and cheap to change a few entries of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

Value = TypeVar("Value")

# A change copies the tuple of shards and the shards that it touches: a few hundred entries where a
# dictionary of a hundred thousand would be copied whole.
_N_SHARDS = 256


class Rows(Mapping[int, Value], Generic[Value]):
    """Values by number, in shards.

    Parameters
    ----------
    values : mapping of int to value, default={}

    Examples
    --------
    >>> rows = Rows({1: "a", 300: "b"})
    >>> grown = rows.updated({1: "c", 2: "d"})
    >>> grown[1], rows[1], len(grown), 2 in rows
    ('c', 'a', 3, False)
    """

    __slots__ = ("_n", "_shards")

    def __init__(self, values: Mapping[int, Value] | None = None) -> None:
        self._shards: tuple[dict[int, Value], ...] = ({},) * _N_SHARDS
        self._n = 0
        if values:
            grown = self.updated(values)
            self._shards, self._n = grown._shards, grown._n

    def updated(self, values: Mapping[int, Value]) -> Rows[Value]:
        """Return these rows with some of them set or replaced."""
        shards = list(self._shards)
        copied: set[int] = set()
        n = self._n
        for number, value in values.items():
            place = number % _N_SHARDS
            if place not in copied:
                shards[place] = dict(shards[place])
                copied.add(place)
            n += number not in shards[place]
            shards[place][number] = value
        grown: Rows[Value] = Rows()
        grown._shards, grown._n = tuple(shards), n
        return grown

    def __getitem__(self, number: int) -> Value:
        return self._shards[number % _N_SHARDS][number]

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and number in self._shards[number % _N_SHARDS]

    def __iter__(self) -> Iterator[int]:
        for shard in self._shards:
            yield from shard

    def __len__(self) -> int:
        return self._n
