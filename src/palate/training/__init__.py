"""The ladder of learning: stage, epoch, batch, step."""
