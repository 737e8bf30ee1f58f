"""Run one config several times: for seeds, folds, learning rates, or the time of an epoch."""
