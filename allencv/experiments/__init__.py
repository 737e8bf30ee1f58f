"""One config, run several times: other seeds, folds, learning rates, the time of an epoch."""
