"""Tables in and out, ids to codes, events to coded histories, histories to batches."""
