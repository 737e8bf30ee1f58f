"""
Merge the summaries of measurements on one kind of GPU, and print their tables.

    python benchmarks/gpu/results.py SUMMARY.JSON ...

A later summary replaces what an earlier one has measured too. The program writes gpu.json into the
folder of the benchmarks, without what has failed. Give it that file first to add to it.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any, Dict, List, Optional

from allencv.runtime.json_files import read_json
from allencv.runtime.whole_files import write_text

PARTS = ("stages", "loops")
"""The parts of a summary that are merged entry by entry: a measurement may lack some."""
Summary = Dict[str, Any]


def merged(summaries: Dict[str, Summary]) -> Summary:
    """Merge summaries, given by the names of their files."""
    gpus = {name: each.get("machine", {}).get("gpu", "unknown") for name, each in summaries.items()}
    if len({*gpus.values()}) > 1:
        found = ", ".join(f"{name}: {gpu}" for name, gpu in gpus.items())
        raise ValueError(f"expected summaries of one kind of GPU; found {found}")
    whole: Summary = {}
    for summary in summaries.values():
        for part, content in summary.items():
            whole[part] = {**whole.get(part, {}), **content} if part in PARTS else content
    return whole


def measured(summary: Summary) -> Summary:
    """Return a summary without how the stages ended and what failed."""
    kept = {part: content for part, content in summary.items() if part != "stages"}
    if "loops" in kept:
        kept["loops"] = {name: _without_errors(group) for name, group in kept["loops"].items()}
    if "loaders" in kept:
        kept["loaders"] = {k: v for k, v in kept["loaders"].items() if k != "errors"}
    return kept


def _without_errors(group: Dict[str, Any]) -> Dict[str, Any]:
    loops = {name: loop for name, loop in group["loops"].items() if "images_per_second" in loop}
    return {**group, "loops": loops}


def table(summary: Summary) -> str:
    """Return a summary in Markdown."""
    parts = {
        "machine": _machine,
        "stages": _stages,
        "tests": _tests,
        "loops": _loops,
        "cifar": _cifar,
        "loaders": _loaders,
        "end_to_end": _end_to_end,
    }
    return "\n\n".join(
        "\n".join(lines(summary[part])) for part, lines in parts.items() if part in summary
    )


def _machine(machine: Dict[str, Any]) -> List[str]:
    return [", ".join(f"{key}: {value}" for key, value in machine.items())]


def _stages(stages: Dict[str, Any]) -> List[str]:
    lines = ["| stage | status | seconds |", "|---|---|---|"]
    for name, stage in stages.items():
        lines.append(f"| {name} | {stage['status']} | {stage['seconds']:.0f} |")
    return lines


def _tests(tests: Dict[str, List[str]]) -> List[str]:
    counts = ", ".join(f"{len(names)} {outcome}" for outcome, names in tests.items())
    failed = [f"- failed: {name}" for name in tests["failed"]]
    return [f"Tests that need a GPU: {counts}", *([""] if failed else []), *failed]


def _loops(groups: Dict[str, Any]) -> List[str]:
    lines: List[str] = []
    for name, group in groups.items():
        lines += [
            *([""] if lines else []),
            f"{name}: {group['network']}, batches of {group['batch_size']}, medians of "
            f"{group['rounds']} rounds of {group['steps']} steps",
            "",
            f"| loop | images/s | time relative to {group['baseline']} | first round, s |",
            "|---|---|---|---|",
        ]
        for loop, found in group["loops"].items():
            if "images_per_second" in found:
                cells = (
                    f"{found['images_per_second']:.0f} | {_number(found['time_to_baseline'], 3)} "
                    f"| {found['first_seconds']:.0f}"
                )
            else:
                cells = f"{found.get('error', 'cut off')[:120]} | |"
            lines.append(f"| {loop} | {cells} |")
    return lines


def _cifar(cifar: Dict[str, Any]) -> List[str]:
    lines = [
        f"training_config/cifar10.jsonnet with NETWORK={cifar['network']}:",
        "",
        "| run | status | epochs | best test accuracy | in epoch | seconds | command, s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, run in cifar["runs"].items():
        accuracy = run["test_accuracy"]
        best = max(accuracy, default=None)
        reached = (
            f"{best:.2%} | {accuracy.index(best) + 1} | {run['seconds'][-1]:.1f}"
            if best is not None
            else "| |"
        )
        lines.append(
            f"| {name} | {run['status']} | {len(accuracy)} of {run['epochs']} | {reached} "
            f"| {run['whole_command_seconds']:.0f} |"
        )
    return lines


def _loaders(loaders: Dict[str, Any]) -> List[str]:
    speeds = loaders["images_per_second"]
    workers = sorted({number for each in speeds.values() for number in each}, key=int)
    lines = [
        "Images per second by number of workers, in batches of 64:",
        "",
        f"| images, loader | {' | '.join(workers)} |",
        "|---|" + "---|" * len(workers),
    ]
    for name, each in speeds.items():
        cells = [f"{statistics.median(each[n]):.0f}" if n in each else "" for n in workers]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    errors = [f"- failed: {error}" for error in loaders.get("errors", [])]
    return [*lines, *([""] if errors else []), *errors]


def _end_to_end(end_to_end: Dict[str, Any]) -> List[str]:
    lines = ["| from JPEG files | loop | images/s | ratio to timm |", "|---|---|---|---|"]
    for name, found in end_to_end["loops"].items():
        lines.append(
            f"| ResNet-18, {end_to_end['size']} px | {name} | {found['images_per_second']:.0f} "
            f"| {_number(found['to_timm'], 2)} |"
        )
    return lines


def _number(value: Optional[float], digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def read(path: Path) -> Summary:
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"found no summary at {path}: {error}") from None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("summaries", type=Path, nargs="+", metavar="SUMMARY.JSON")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent.parent / "gpu.json")
    arguments = parser.parse_args()
    try:
        whole = merged({str(path): read(path) for path in arguments.summaries})
    except ValueError as error:
        parser.error(str(error))
    print(table(whole))
    write_text(arguments.output, json.dumps(measured(whole), indent=2) + "\n")


if __name__ == "__main__":
    main()
