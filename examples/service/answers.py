"""Many questions to a model as few calls: questions with the same options are asked together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import narwhals.stable.v2 as nw

from palate import Recommender


@dataclass(frozen=True)
class Question:
    """One call of /recommend.

    Attributes
    ----------
    kind : {"users", "histories", "texts"}
    queries : list
        User ids, or histories of item ids and `palate.Text`, or histories of str.
    options : tuple of (name, value)
        The other arguments of ``Recommender.recommend``; lists as tuples.
    """

    kind: str
    queries: list[Any]
    options: tuple[tuple[str, Any], ...]

    def __len__(self) -> int:
        return len(self.queries)


# For every query of a question: who was asked for, and the rows found.
Answer = list[tuple[Any, list[dict[str, Any]]]]


def answer_each(model: Recommender, questions: Sequence[Question]) -> list[Answer | Exception]:
    """Return the answer to each question, or the error that it alone would raise."""
    answers: list[Answer | Exception] = [[] for _ in questions]
    groups: dict[Any, list[int]] = defaultdict(list)
    for place, question in enumerate(questions):
        groups[question.kind, question.options].append(place)
    for places in groups.values():
        alike = [questions[place] for place in places]
        try:
            found: Sequence[Answer | Exception] = _ask(model, alike)
        except Exception as error:
            # One bad question must not spoil the others: each is asked alone.
            alone = alike if len(alike) > 1 else []
            found = [answer_each(model, [question])[0] for question in alone] or [error]
        for place, rows in zip(places, found, strict=True):
            answers[place] = rows
    return answers


def _ask(model: Recommender, questions: Sequence[Question]) -> list[Answer]:
    """Ask one call of `recommend` for all, and hand each its own rows."""
    kind, options = questions[0].kind, dict(questions[0].options)
    queries = [query for question in questions for query in question.queries]
    # The table calls users by their id, in one run of rows each; histories by their place.
    asked = list(dict.fromkeys(queries)) if kind == "users" else queries
    options[kind] = asked
    table = nw.from_native(model.recommend(**options))
    found: dict[Any, list[dict[str, Any]]] = {}
    columns = [table.get_column(n).to_list() for n in ("user_id", "item_id", "score", "rank")]
    for user, item, score, rank in zip(*columns, strict=True):
        found.setdefault(user, []).append({"item_id": item, "score": score, "rank": rank})
    labels = iter(queries if kind == "users" else range(len(queries)))
    answers = []
    for question in questions:
        mine = [next(labels) for _ in question.queries]
        named = mine if kind == "users" else range(len(mine))
        answers.append([(n, found.get(m, [])) for n, m in zip(named, mine, strict=True)])
    return answers
