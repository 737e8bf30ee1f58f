def numbered(count: int, noun: str, none: str = "0") -> str:
    """Return a number with its noun: "1 label", "2 labels", "0 classes"; `none` stands for 0."""
    if count != 1:
        noun += "es" if noun.endswith("s") else "s"
    return f"{count or none} {noun}"
