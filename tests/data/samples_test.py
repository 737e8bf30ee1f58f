import pickle
import tracemalloc
from typing import List

import numpy as np
import pytest
from allennlp.data import Vocabulary

from allencv.data.dataset_readers.image_dataset_reader import ImageDatasetReader, Sample
from allencv.data.samples import Instances, SampleList

SAMPLES: List[Sample] = [
    Sample("a/1.jpg", "cat"),
    Sample("b/ü 2.jpg", "dog"),
    Sample("bytes that are no text: \udcff.jpg", "cat", metadata={"patient": 7}),
    Sample(np.zeros((2, 2, 3), np.uint8)),
    Sample("", None, ["cat", "dog"]),
    Sample("c", None, []),
]


def test_it_is_the_list_of_the_samples() -> None:
    samples = SampleList(SAMPLES)
    assert len(samples) == len(SAMPLES)
    for actual, expected in zip(samples, SAMPLES):
        assert actual.image is expected.image or actual.image == expected.image
        assert actual.label == expected.label
        assert (actual.labels is None) == (expected.labels is None)
        assert list(actual.labels or []) == list(expected.labels or [])
        assert actual.metadata == expected.metadata
    assert samples[-1].image == "c"
    assert [sample.image for sample in samples[:2]] == ["a/1.jpg", "b/ü 2.jpg"]
    with pytest.raises(IndexError):
        samples[len(SAMPLES)]


def test_labels_are_counted() -> None:
    assert SampleList(SAMPLES).labels() == {"cat": 3, "dog": 2}
    assert [SAMPLES[i].label for i in SampleList(SAMPLES[:3]).one_of_each_label()] == ["cat", "dog"]


def test_it_travels_to_other_processes() -> None:
    samples = pickle.loads(pickle.dumps(SampleList(SAMPLES)))
    assert samples[1] == SAMPLES[1]


def test_a_sample_costs_its_path_and_little_more() -> None:
    def listed(count: int) -> SampleList:
        return SampleList(Sample(f"{i:0100d}", f"class {i % 10}") for i in range(count))

    tracemalloc.start()
    samples = listed(20_000)
    used = tracemalloc.get_traced_memory()[0] / len(samples)
    tracemalloc.stop()
    assert used < 100 + 30


def test_instances_are_made_and_indexed_when_asked_for() -> None:
    instances = Instances(ImageDatasetReader(), SampleList(SAMPLES[:3]))
    assert [instance["label"].label for instance in instances] == ["cat", "dog", "cat"]
    assert instances[2]["metadata"].metadata["patient"] == 7
    assert not instances[0].indexed
    instances.vocab = Vocabulary.from_instances(instances)
    assert [instance["label"]._label_id for instance in instances] == [0, 1, 0]


def test_no_samples() -> None:
    assert list(SampleList()) == []
    assert SampleList().labels() == {}
