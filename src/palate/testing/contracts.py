"""Checks that any part must pass: call them in the tests of your own parts.

Each check builds the part as the estimator does and raises an ``AssertionError`` that names the
rule that is broken.
"""

from __future__ import annotations

from palate.testing._item_encoder_contract import check_item_encoder
from palate.testing._ranker_contract import check_ranker
from palate.testing._user_encoder_contract import check_user_encoder

__all__ = ["check_item_encoder", "check_ranker", "check_user_encoder"]
