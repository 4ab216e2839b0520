"""The read side: pure folds over the log."""
