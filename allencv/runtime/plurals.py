def numbered(count: int, noun: str) -> str:
    """Return a number with its noun: "1 label", "2 labels", "0 classes"."""
    if count != 1:
        noun += "es" if noun.endswith("s") else "s"
    return f"{count} {noun}"
