"""
Divides images so that each part has its share of each label. Images of one group stay together:
`groups` has the name of each image's group, and `shares` a number that looks random for each
group, which orders them.
"""

from collections import Counter, defaultdict
from typing import Dict, List, Optional, Sequence, Set, Tuple

from allencv.data.dataset_readers.image_dataset_reader import Sample


def labels_of(sample: Sample) -> Sequence[Optional[str]]:
    """What a sample is counted under: `None` if it has no label."""
    return sample.labels or (sample.label,)


def hold_out(
    samples: Sequence[Sample], groups: Sequence[str], shares: Dict[str, float], fraction: float
) -> Set[str]:
    """
    The groups that are held out: label by label from the rarest, in the order of their shares,
    until the label has its fraction; what of it is left then is not held out.
    """
    is_held_out: Dict[str, bool] = {}
    for of_label, total in _rarest_first(samples, groups):
        # One image at least on each side where there are two; half an image is held out.
        target = min(max(int(fraction * total + 0.5), 1), total - 1)
        undecided = sorted((g for g in of_label if g not in is_held_out), key=lambda g: shares[g])
        held = sum(size for group, size in of_label.items() if is_held_out.get(group))
        for group in undecided:
            size = of_label[group]
            # Nearer to the target with it than without, and something is left to train on.
            is_held_out[group] = size <= 2 * (target - held) and held + size < total
            held += size if is_held_out[group] else 0
        if held == 0 and undecided and len(of_label) > 1:
            is_held_out[min(undecided, key=lambda group: of_label[group])] = True
    return {group for group, held_out in is_held_out.items() if held_out}


def deal(
    samples: Sequence[Sample], groups: Sequence[str], shares: Dict[str, float], folds: int
) -> Dict[str, int]:
    """
    The fold of each group: label by label from the rarest, the largest groups first, each to the
    fold with the fewest images of the label, and of these to the one with the fewest in all. Of
    images with one label each and no groups, folds differ by one image at most, in each class and
    in all. The order is that of iterative stratification (Sechidis et al. 2011).
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
    """For each label, the number of its images in each group, and in all."""
    sizes: Dict[Optional[str], Dict[str, int]] = defaultdict(Counter)
    for sample, group in zip(samples, groups):
        for label in labels_of(sample):
            sizes[label][group] += 1
    totals = {label: sum(of_label.values()) for label, of_label in sizes.items()}
    order = sorted(sizes, key=lambda label: (totals[label], label is None, label or ""))
    return [(sizes[label], totals[label]) for label in order]
