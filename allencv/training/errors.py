class TrainingError(ValueError):
    """Training that cannot go on. The message says why, and what to try, in one line."""
