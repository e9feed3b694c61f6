"""Splits of an event table that keep the future out of training, for scikit-learn's ``cv=``."""

from __future__ import annotations

from palate.model_selection.last_out import LeaveLastOut, leave_last_out_split
from palate.model_selection.windows import TimeSplit, time_split

__all__ = ["LeaveLastOut", "TimeSplit", "leave_last_out_split", "time_split"]
