"""
Divides images so that each part has its share of each label. Images of one group stay together:
`groups` has the group name of each image, `shares` a pseudorandom number per group, which sets the
order.
"""

from collections import Counter, defaultdict
from typing import Dict, List, Optional, Sequence, Set, Tuple

from allencv.data.dataset_readers.image_dataset_reader import Sample


def labels_of(sample: Sample) -> Sequence[Optional[str]]:
    """Return the labels of a sample, or `(None,)` without labels."""
    return sample.labels or (sample.label,)


def hold_out(
    samples: Sequence[Sample], groups: Sequence[str], shares: Dict[str, float], fraction: float
) -> Set[str]:
    """
    Return the groups to hold out: label by label from the rarest, in the order of their shares,
    until the label has its fraction.
    """
    is_held_out: Dict[str, bool] = {}
    for of_label, total in _rarest_first(samples, groups):
        # At least one image on each side if there are two; half an image is held out.
        target = min(max(int(fraction * total + 0.5), 1), total - 1)
        undecided = sorted((g for g in of_label if g not in is_held_out), key=lambda g: shares[g])
        held = sum(size for group, size in of_label.items() if is_held_out.get(group))
        for group in undecided:
            size = of_label[group]
            # This brings it nearer to the target, and leaves something to train on.
            is_held_out[group] = size <= 2 * (target - held) and held + size < total
            held += size if is_held_out[group] else 0
        if held == 0 and undecided and len(of_label) > 1:
            is_held_out[min(undecided, key=lambda group: of_label[group])] = True
    return {group for group, held_out in is_held_out.items() if held_out}


def deal(
    samples: Sequence[Sample], groups: Sequence[str], shares: Dict[str, float], folds: int
) -> Dict[str, int]:
    """
    Return the fold of each group: label by label from the rarest, largest groups first, each to the
    fold with the fewest images of the label, then with the fewest images. Without groups and with
    one label per image, folds differ by at most one image, in each class and in total. The order is
    that of iterative stratification (Sechidis et al. 2011).
    """
    sizes = Counter(groups)
    fold_of: Dict[str, int] = {}
    in_all = [0] * folds
    for of_label, _ in _rarest_first(samples, groups):
        of_fold = [0] * folds
        for group, size in of_label.items():
            if group in fold_of:
                of_fold[fold_of[group]] += size
        undecided = (group for group in of_label if group not in fold_of)
        for group in sorted(undecided, key=lambda group: (-of_label[group], shares[group])):
            fold = min(range(folds), key=lambda fold: (of_fold[fold], in_all[fold]))
            fold_of[group] = fold
            of_fold[fold] += of_label[group]
            in_all[fold] += sizes[group]
    return fold_of


def _rarest_first(
    samples: Sequence[Sample], groups: Sequence[str]
) -> List[Tuple[Dict[str, int], int]]:
    """Return for each label the number of its images, by group and in total."""
    sizes: Dict[Optional[str], Dict[str, int]] = defaultdict(Counter)
    for sample, group in zip(samples, groups):
        for label in labels_of(sample):
            sizes[label][group] += 1
    totals = {label: sum(of_label.values()) for label, of_label in sizes.items()}
    order = sorted(sizes, key=lambda label: (totals[label], label is None, label or ""))
    return [(sizes[label], totals[label]) for label in order]
