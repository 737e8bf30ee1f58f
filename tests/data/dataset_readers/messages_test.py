from allencv.data.dataset_readers.messages import cut, some


def test_some() -> None:
    assert some([]) == "nothing"
    assert some(["a", "b"]) == "a, b"
    assert some([str(number) for number in range(12)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"
    assert some(["caf\udce9"]) == "caf\\udce9"


def test_cut() -> None:
    assert cut("short") == "'short'"
    assert cut(None) == "None"
    assert cut("x" * 200) == f"'{'x' * 37}...{'x' * 38}'"
    assert len(cut(bytes(1000))) == 80
    assert len(cut({"bytes": bytes(1000), "path": "a"})) < 120
