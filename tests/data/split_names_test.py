from allencv.data.split_names import part_in, part_of


def test_names_of_parts() -> None:
    words = ("Train", "VAL", "dev", "Testing", "trainer", "")
    assert [part_of(word) for word in words] == [
        *("train", "validation", "validation", "test", None, None),
    ]


def test_names_with_a_word_that_says_a_part() -> None:
    train = (
        "train",
        "seg_train",
        "training_set",
        "TrainImages",
        "train2017",
        "trainset",
        "X-TRAIN",
    )
    assert {part_in(name) for name in train} == {"train"}
    assert [part_in(name) for name in ("test1", "data test", "ValidationSet")] == [
        *("test", "test", "validation"),
    ]
    others = ("trainer", "bus", "contest", "invalid", "train_test", "dataset", "images", "")
    assert {part_in(name) for name in others} == {None}
