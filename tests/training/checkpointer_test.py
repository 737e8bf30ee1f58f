import copy
import errno
import os
import signal
import time

import numpy as np
import pytest
import torch
from allennlp.common import Lazy, Params
from allennlp.common.checks import ConfigurationError
from allennlp.training import Trainer
from allennlp.training.checkpointer import Checkpointer
from allennlp.training.trainer import TrainerCheckpoint

from allencv.common.safe_globals import add_safe_globals
from allencv.training.checkpointer import AtomicCheckpointer, load_state, save_state
from allencv.training.moving_average import ExponentialMovingAverage

resource = pytest.importorskip("resource")  # whose limits Windows lacks

add_safe_globals()

PAIR = ["model_state_e{}_b{}.th", "training_state_e{}_b{}.th"]

AllenNLPCheckpointer = Checkpointer  # the base of the registry is also AllenNLP's only kind


class TrainerAt:
    """As much of a trainer as a checkpointer needs: what there is to save after so many batches."""

    def __init__(self, epochs, batches=0):
        self.at = (epochs, batches)

    def get_checkpoint_state(self):
        epochs, batches = self.at
        training = {"epochs_completed": epochs, "batches_in_epoch_completed": batches, "version": 1}
        return TrainerCheckpoint({"weight": torch.full((3,), 10.0 * epochs + batches)}, training)


def save(folder, *points, checkpointer=None):
    checkpointer = checkpointer or AtomicCheckpointer(folder)
    for point in points:
        checkpointer.save_checkpoint(TrainerAt(*point))
    return checkpointer


def loaded_point(checkpointer):
    """Where the loaded checkpoint continues, once its two halves are seen to belong together."""
    model_state, training = checkpointer.load_checkpoint()
    at = (training["epochs_completed"], training["batches_in_epoch_completed"])
    expected = TrainerAt(*at).get_checkpoint_state()
    assert training == expected.trainer_state
    assert torch.equal(model_state["weight"], expected.model_state["weight"])
    return at


def names(*points):
    return sorted(name.format(*point) for point in points for name in PAIR)


def cut(path, length):
    content = path.read_bytes()
    path.write_bytes(content[:length])


class FullDisk:
    """`torch.save` on a disk that has room for a number of whole files and a part of the next."""

    def __init__(self, room_for):
        self.room_for = room_for
        self.save = torch.save

    def __call__(self, state, file):
        if self.room_for == 0:
            file.write(b"PK\x03\x04")
            raise OSError(28, "No space left on device")
        self.room_for -= 1
        self.save(state, file)


# Saving, loading, keeping


def test_nothing_saved_is_nothing_to_load(tmp_path):
    assert AtomicCheckpointer(tmp_path).load_checkpoint() is None
    assert AtomicCheckpointer(tmp_path).find_latest_checkpoint() is None
    assert AtomicCheckpointer(tmp_path / "missing").load_checkpoint() is None


def test_the_newest_is_loaded_and_two_are_kept(tmp_path):
    save(tmp_path, (0, 5), (1, 0), (1, 10), (1, 9))
    assert sorted(os.listdir(tmp_path)) == names((1, 9), (1, 10))
    assert loaded_point(AtomicCheckpointer(tmp_path)) == (1, 10)
    latest = [str(tmp_path / name) for name in names((1, 10))]
    assert list(AtomicCheckpointer(tmp_path).find_latest_checkpoint()) == latest


def test_allennlps_own_class_removes_checkpoints_that_it_should_keep(tmp_path):
    # One of the reasons for ours.
    own = AllenNLPCheckpointer(tmp_path, keep_most_recent_by_count=3)
    save(tmp_path, (0, 1), (0, 10), (0, 11), (0, 12), checkpointer=own)
    assert os.listdir(tmp_path) == []


def test_a_checkpoint_is_removed_alone(tmp_path):
    ours = AtomicCheckpointer(tmp_path, keep_most_recent_by_count=3)
    save(tmp_path, (0, 1), (0, 10), (0, 11), (0, 12), checkpointer=ours)
    assert sorted(os.listdir(tmp_path)) == names((0, 10), (0, 11), (0, 12))


def test_all_are_kept_if_nothing_limits_them(tmp_path):
    points = [(0, 1), (0, 2), (1, 0)]
    save(
        tmp_path, *points, checkpointer=AtomicCheckpointer(tmp_path, keep_most_recent_by_count=None)
    )
    assert sorted(os.listdir(tmp_path)) == names(*points)


def test_young_ones_are_kept_besides(tmp_path):
    ours = AtomicCheckpointer(tmp_path, keep_most_recent_by_count=1, keep_most_recent_by_age=60)
    save(tmp_path, (0, 1), (0, 2), checkpointer=ours)
    for name in names((0, 1)):
        os.utime(tmp_path / name, (time.time() - 100, time.time() - 100))
    save(tmp_path, (0, 3), checkpointer=ours)
    assert sorted(os.listdir(tmp_path)) == names((0, 2), (0, 3))


def test_the_newest_is_never_removed(tmp_path):
    for count, age in [(0, None), (None, 0), (0, 0)]:
        save(
            tmp_path,
            (1, 0),
            (2, 0),
            checkpointer=AtomicCheckpointer(tmp_path, True, None, None, count, age),
        )
        assert sorted(os.listdir(tmp_path))[-2:] == names((2, 0))[-2:]
        assert loaded_point(AtomicCheckpointer(tmp_path)) == (2, 0)


def test_the_weights_of_completed_epochs(tmp_path):
    checkpointer = AtomicCheckpointer(tmp_path, keep_most_recent_by_count=None)
    assert checkpointer.completed_epochs() == []
    save(tmp_path, (1, 0), (1, 5), (2, 0), (10, 0), checkpointer=checkpointer)
    os.remove(tmp_path / PAIR[1].format(2, 0))  # half of a pair does not count
    assert checkpointer.completed_epochs() == [1, 10]
    expected = TrainerAt(10).get_checkpoint_state().model_state["weight"]
    assert torch.equal(checkpointer.load_model_state(10)["weight"], expected)


@pytest.mark.parametrize(
    ("by_count", "by_age", "keeps_three"),
    [(2, None, False), (3, None, True), (None, None, True), (None, 60, False), (3, 60, True)],
)
def test_how_many_are_kept_for_sure(tmp_path, by_count, by_age, keeps_three):
    checkpointer = AtomicCheckpointer(
        tmp_path, keep_most_recent_by_count=by_count, keep_most_recent_by_age=by_age
    )
    assert checkpointer.keeps(3) is keeps_three
    assert checkpointer.keep_most_recent_by_count == by_count


def test_a_checkpoint_of_allennlps_class_is_loaded(tmp_path):
    save(tmp_path, (1, 0), (2, 0), checkpointer=AllenNLPCheckpointer(tmp_path))
    assert loaded_point(AtomicCheckpointer(tmp_path)) == (2, 0)


def test_a_folder_with_brackets_in_its_name(tmp_path):
    folder = tmp_path / "run[1]"
    folder.mkdir()
    save(folder, (1, 0), (2, 0), (3, 0))
    assert len(os.listdir(folder)) == 4
    assert loaded_point(AtomicCheckpointer(folder)) == (3, 0)
    # One of the reasons for ours.
    assert AllenNLPCheckpointer(folder).load_checkpoint() is None


def test_sharded_states_are_complete_when_every_process_has_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    processes = [AtomicCheckpointer(tmp_path) for _ in range(2)]
    for rank, process in enumerate(processes):
        process.state_is_sharded, process._rank = True, rank
        save(tmp_path, (1, 0), checkpointer=process)
    save(tmp_path, (2, 0), checkpointer=processes[0])
    assert "model_state_e1_b0_w1.th" in os.listdir(tmp_path)
    assert [loaded_point(process) for process in processes] == [(1, 0), (1, 0)]
    save(tmp_path, (2, 0), checkpointer=processes[1])
    assert [loaded_point(process) for process in processes] == [(2, 0), (2, 0)]


# Crashes


def test_allennlps_own_class_still_fails_after_a_crash(tmp_path):
    # Delete ours when this one falls back to the checkpoint before.
    save(tmp_path, (1, 0), (2, 0), checkpointer=AllenNLPCheckpointer(tmp_path))
    cut(tmp_path / "training_state_e2_b0.th", 100)
    with pytest.raises(RuntimeError):
        AllenNLPCheckpointer(tmp_path).load_checkpoint()
    os.remove(tmp_path / "training_state_e2_b0.th")
    with pytest.raises(FileNotFoundError):
        AllenNLPCheckpointer(tmp_path).load_checkpoint()


@pytest.mark.parametrize("missing", names((2, 0)))
def test_an_incomplete_pair_is_passed_over(tmp_path, caplog, missing):
    save(tmp_path, (1, 0), (2, 0))
    os.remove(tmp_path / missing)
    ours = AtomicCheckpointer(tmp_path)
    assert loaded_point(ours) == (1, 0)
    assert "incomplete checkpoint" in caplog.text
    assert ours.find_latest_checkpoint()[0].endswith("model_state_e1_b0.th")


@pytest.mark.parametrize("damaged", names((2, 0)))
def test_a_file_cut_short_anywhere_is_passed_over(tmp_path, caplog, damaged):
    save(tmp_path, (1, 0), (2, 0))
    content = (tmp_path / damaged).read_bytes()
    lengths = [*range(12), *range(12, len(content), 61), *range(len(content) - 8, len(content))]
    for length in lengths:
        (tmp_path / damaged).write_bytes(content[:length])
        ours = AtomicCheckpointer(tmp_path)
        assert loaded_point(ours) == (1, 0), length
        assert ours.find_latest_checkpoint()[0].endswith("model_state_e1_b0.th")
    assert caplog.text.count(damaged) == len(lengths)


def test_a_file_of_zeros_or_with_a_changed_byte_is_passed_over(tmp_path):
    save(tmp_path, (1, 0), (2, 0))
    path = tmp_path / "training_state_e2_b0.th"
    content = path.read_bytes()
    start = content.index(b"epochs_completed")
    for zeros_from in (0, start, len(content) - 100):
        path.write_bytes(content[:zeros_from] + bytes(len(content) - zeros_from))
        assert loaded_point(AtomicCheckpointer(tmp_path)) == (1, 0)
    for position in range(start - 10, start + 60):
        path.write_bytes(content[:position] + b"\xff" + content[position + 1 :])
        assert loaded_point(AtomicCheckpointer(tmp_path)) == (1, 0), position


def test_nothing_but_damaged_checkpoints_is_an_error(tmp_path):
    save(tmp_path, (1, 0), (2, 0))
    cut(tmp_path / "model_state_e1_b0.th", 10)
    os.remove(tmp_path / "training_state_e2_b0.th")
    message = r"delete \[.*model_state_e1_b0\.th.*model_state_e2_b0\.th"
    with pytest.raises(ConfigurationError, match=message):
        AtomicCheckpointer(tmp_path).load_checkpoint()


def test_an_undamaged_file_that_torch_refuses_is_an_error(tmp_path):
    save(tmp_path, (1, 0), (2, 0))
    path = tmp_path / "training_state_e2_b0.th"
    torch.save({"metric": np.array([1.0])}, path)
    with pytest.raises(ConfigurationError, match=r"e2_b0\.th is undamaged .*ndarray"):
        AtomicCheckpointer(tmp_path).load_checkpoint()


def test_a_damaged_pair_is_written_anew_and_counts_again(tmp_path):
    save(tmp_path, (1, 0), (2, 0))
    cut(tmp_path / "model_state_e2_b0.th", 10)
    ours = AtomicCheckpointer(tmp_path)
    assert loaded_point(ours) == (1, 0)
    save(tmp_path, (2, 0), checkpointer=ours)
    assert loaded_point(AtomicCheckpointer(tmp_path)) == (2, 0)


def test_damaged_and_incomplete_pairs_do_not_count_as_kept_and_are_removed_when_old(tmp_path):
    save(tmp_path, (1, 0), (2, 0))
    save(tmp_path, (2, 50), checkpointer=AtomicCheckpointer(tmp_path, keep_most_recent_by_count=3))
    cut(tmp_path / "model_state_e2_b50.th", 10)
    (tmp_path / "model_state_e2_b5.th").write_bytes(b"")
    ours = AtomicCheckpointer(tmp_path)
    assert loaded_point(ours) == (2, 0)
    save(tmp_path, (2, 10), checkpointer=ours)
    assert sorted(os.listdir(tmp_path)) == names((2, 0), (2, 10), (2, 50))
    assert ours.find_latest_checkpoint()[0].endswith("model_state_e2_b10.th")
    save(tmp_path, (3, 0), checkpointer=ours)
    assert sorted(os.listdir(tmp_path)) == names((2, 10), (3, 0))


@pytest.fixture
def small_files():
    """Lets no file grow beyond 100,000 bytes, which fails as a full disk does."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python has it, unless a test runner differs
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_is_named_with_its_file(tmp_path, small_files):
    path = tmp_path / "best.th"
    path.write_bytes(b"of before")
    for size in (30_000, 1_000_000):  # the end of a file, and the middle
        for count in (1, 4):
            with pytest.raises(OSError, match="File too large") as error:
                save_state({str(i): torch.zeros(size // count) for i in range(count)}, str(path))
            assert (error.value.errno, error.value.filename) == (errno.EFBIG, str(path))
    assert path.read_bytes() == b"of before"
    assert os.listdir(tmp_path) == ["best.th"]
    save_state({"small": torch.zeros(3)}, str(path))
    assert load_state(str(path))["small"].tolist() == [0, 0, 0]


def test_the_file_of_a_pair_that_does_not_fit_is_named(tmp_path, small_files):
    ours = save(tmp_path, (1, 0))
    small, large = {"a": torch.zeros(3)}, {"a": torch.zeros(100_000)}
    for name, states in (("model", (large, small)), ("training", (small, large))):
        with pytest.raises(OSError, match="File too large") as error:
            ours._write((2, 0), TrainerCheckpoint(*states))
        assert error.value.filename == str(tmp_path / f"{name}_state_e2_b0.th")
    assert sorted(os.listdir(tmp_path)) == names((1, 0))


def test_another_error_of_torchs_is_left_as_it_is(tmp_path, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("no storage")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(RuntimeError, match="no storage"):
        save_state({}, str(tmp_path / "best.th"))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("key", "value", "least"),
    [
        ("save_every_num_batches", 0, 1),
        ("save_every_num_seconds", -1.0, 0),
        ("keep_most_recent_by_count", -1, 0),
        ("keep_most_recent_by_age", float("nan"), 0),
    ],
)
def test_values_out_of_range_are_refused(tmp_path, key, value, least):
    message = f"trainer.checkpointer.{key} is {value}; expected {least} or more"
    with pytest.raises(ConfigurationError, match=message):
        AtomicCheckpointer(tmp_path, **{key: value})


@pytest.mark.parametrize("room_for", [0, 1])
def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch, room_for):
    ours = save(tmp_path, (1, 0))
    monkeypatch.setattr(torch, "save", FullDisk(room_for))
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path, (2, 0), checkpointer=ours)
    assert sorted(os.listdir(tmp_path)) == names((1, 0))
    assert loaded_point(AtomicCheckpointer(tmp_path)) == (1, 0)


@pytest.mark.parametrize("renames", [0, 1])
def test_a_kill_between_the_steps_leaves_the_checkpoint_before(tmp_path, monkeypatch, renames):
    ours = save(tmp_path, (1, 0))
    replace, left = os.replace, [True] * renames

    def replace_until_killed(source, target):
        if not left:
            raise KeyboardInterrupt
        left.pop()
        replace(source, target)

    monkeypatch.setattr(os, "replace", replace_until_killed)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, (2, 0), checkpointer=ours)
    assert loaded_point(AtomicCheckpointer(tmp_path)) == (1, 0)
    assert not list(tmp_path.glob(".*"))


def test_leftovers_are_removed_at_the_start_and_nothing_else(tmp_path):
    (tmp_path / "model_state_e1_b0.th.tmp").write_bytes(b"half")
    (tmp_path / "training_state_e1_b5_w1.th.tmp").write_bytes(b"half")
    (tmp_path / ".allencv-0123456789abcdef0123456789abcdef.th").write_bytes(b"half")
    kept = ["notes.tmp", ".allencv-notes.th", ".allencv-0123456789abcdef0123456789abcdef.html"]
    for name in kept:
        (tmp_path / name).write_bytes(b"")
    AtomicCheckpointer(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(kept)


def test_a_best_model_linked_to_a_checkpoint_survives_its_rewriting(tmp_path):
    save(tmp_path, (1, 0))
    best = tmp_path / "best.th"
    os.link(tmp_path / "model_state_e1_b0.th", best)
    before = best.read_bytes()
    AtomicCheckpointer(tmp_path)._write((1, 0), TrainerAt(2).get_checkpoint_state())
    assert best.read_bytes() == before


# In a trainer


@pytest.mark.parametrize("lazy", [Lazy(AtomicCheckpointer), Lazy(Checkpointer)])
def test_lazily_constructed(tmp_path, lazy):
    assert type(lazy.construct(serialization_dir=str(tmp_path))) is AtomicCheckpointer


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(4, 1)

    def forward(self, features):
        return {"loss": self.layer(features).square().mean()}

    def get_metrics(self, reset=False):
        return {}

    def get_regularization_penalty(self):
        return None


class Batches:
    def set_target_device(self, device):
        pass

    def __len__(self):
        return 6

    def __iter__(self):
        generator = torch.Generator().manual_seed(3)
        return iter([{"features": torch.randn(2, 4, generator=generator)} for _ in range(6)])


def trainer(folder, **params):
    folder.mkdir(exist_ok=True)
    return Trainer.from_params(
        Params({"cuda_device": -1, "run_confidence_checks": False, **params}),
        model=Network(),
        data_loader=Batches(),
        serialization_dir=str(folder),
    )


def test_a_run_recovered_from_the_pair_before_a_crash_ends_as_an_uninterrupted_one(tmp_path):
    params = {
        "optimizer": {"type": "adamw", "lr": 0.1},
        "learning_rate_scheduler": {"type": "cosine", "t_initial": 3},
        "moving_average": {"type": "exponential", "decay": 0.9},
        "checkpointer": {"save_every_num_batches": 2, "keep_most_recent_by_count": 3},
    }
    whole = trainer(tmp_path / "whole", num_epochs=3, **copy.deepcopy(params))
    assert type(whole._checkpointer) is AtomicCheckpointer
    assert type(whole._moving_average) is ExponentialMovingAverage
    whole.train()

    trainer(tmp_path / "cut", num_epochs=2, **copy.deepcopy(params)).train()
    cut(tmp_path / "cut" / "training_state_e2_b0.th", 50)
    recovered = trainer(tmp_path / "cut", num_epochs=3, **copy.deepcopy(params))
    recovered.train()
    assert recovered._start_after_batches_in_epoch_completed == 6
    for name, value in whole.model.state_dict().items():  # the averages: training has ended
        assert torch.equal(recovered.model.state_dict()[name], value)


def test_a_config_without_a_checkpointer_gets_the_registered_one(tmp_path):
    assert type(trainer(tmp_path)._checkpointer) is AtomicCheckpointer
