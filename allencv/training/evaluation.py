import json
from contextlib import ExitStack, contextmanager
from itertools import islice
from os import PathLike
from tempfile import TemporaryFile
from typing import Any, Callable, Dict, Iterator, List, Optional, TextIO, Union

import torch
from allennlp.common import Tqdm
from allennlp.common.checks import check_for_gpu
from allennlp.common.util import dump_metrics, int_to_device, is_distributed
from allennlp.data import DataLoader, TensorDict
from allennlp.evaluation import Evaluator, SimpleEvaluator
from allennlp.models import Model
from allennlp.nn.util import move_to_device

from allencv.predictions.all_ranks import (
    copy_buffers,
    every_image_once,
    gathered,
    in_order,
    is_first_rank,
    pass_turn,
)
from allencv.runtime.whole_files import whole_file, write_text
from allencv.training.acceleration import set_memory_format
from allencv.training.running_losses import LOSS_WEIGHT, RunningLosses, count_images

Outputs = Dict[str, Any]

BATCHES_AT_ONCE = 16
"""For how many batches the ranks exchange predictions at once."""


def evaluate(
    model: Model,
    data_loader: DataLoader,
    cuda_device: Union[int, torch.device] = -1,
    batch_weight_key: Optional[str] = None,
    on_batch: Optional[Callable[[TensorDict, Outputs], None]] = None,
) -> Dict[str, Any]:
    """
    Return the metrics of a model on all images of a data loader, each of which counts once. In
    distributed training all ranks must call this. Each evaluates its share, and returns the metrics
    of all images.

    AllenNLP's function of this name (`training/util.py`) reports the mean of the batches' losses,
    which changes with the batch size. Here `loss` is the mean over the images; with class weights,
    the weighted mean.

    # Parameters

    batch_weight_key : `str`, optional (default = `None`)
        The key of the model's outputs that says how much the loss of a batch counts, in place of
        the number of its images.
    on_batch : `Callable`, optional (default = `None`)
        Called with each batch and the model's outputs for it, both `{}` if no image of the batch
        can be read.

    # Raises

    `ImageError` if no rank can read an image.
    """
    if not isinstance(cuda_device, torch.device):
        check_for_gpu(cuda_device)
    device = int_to_device(cuda_device)
    data_loader.set_target_device(device)
    losses = RunningLosses(batch_weight_key or LOSS_WEIGHT)
    model.eval()
    copy_buffers(model)
    with torch.no_grad(), every_image_once(data_loader):
        for each in Tqdm.tqdm(data_loader, disable=not is_first_rank()):
            batch = move_to_device(each, device)
            outputs: Outputs = model(**batch) if batch else {}
            if not batch:
                pass_turn(model)
            if "loss" in outputs:
                losses.add([outputs], [count_images(batch)])
            if on_batch is not None:
                on_batch(batch, outputs)
    return model.get_metrics(reset=True) | losses.read_all_ranks()


@Evaluator.register("simple", exist_ok=True)
class ImageEvaluator(SimpleEvaluator):
    """
    Runs the command `evaluate` with `evaluate` of this module, for all models.

    Replaces AllenNLP's class (`evaluation/evaluator.py`), whose loss is the mean of the batches'
    losses.

    Registered as an `Evaluator` with name "simple".

    # Parameters

    batch_serializer : `Serializer`, optional (default = `SimpleSerializer`)
        Turns the predictions for a batch into lines for the output file.
    cuda_device : `Union[int, torch.device]`, optional (default = `-1`)
        The GPU to evaluate on; -1 is the CPU.
    postprocessor_fn_name : `str`, optional (default = `"make_output_human_readable"`)
        The method of the model that makes its outputs readable.
    """

    def __call__(
        self,
        model: Model,
        data_loader: DataLoader,
        batch_weight_key: Optional[str] = None,
        metrics_output_file: Union[str, PathLike, None] = None,
        predictions_output_file: Union[str, PathLike, None] = None,
    ) -> Dict[str, Any]:
        readable = getattr(model, self.postprocessor_fn_name, None)
        with ExitStack() as files:
            write: Optional[Callable[[TensorDict, Outputs], None]] = None
            if predictions_output_file is not None:
                write_text_of_batch = files.enter_context(written_in_order(predictions_output_file))

                def write(batch: TensorDict, outputs: Outputs) -> None:
                    text: Optional[str] = None
                    if batch:
                        text = f"{self.batch_serializer(batch, outputs, data_loader, readable)}\n"
                    write_text_of_batch(text)

            set_memory_format(model, None, int_to_device(self.cuda_device))
            metrics = evaluate(model, data_loader, self.cuda_device, batch_weight_key, write)
        if metrics_output_file is not None and is_first_rank():
            dump_metrics(None, metrics, log=True)
            write_text(metrics_output_file, json.dumps(metrics, indent=2))
        return metrics


@contextmanager
def written_in_order(path: Union[str, PathLike]) -> Iterator[Callable[[Optional[str]], None]]:
    """
    Yield a function that takes the text of each batch of this rank, or `None` for a batch without
    images. At the end, the first rank writes the texts of all ranks to `path`, in the order of a
    single process. All ranks must use this.
    """
    if not is_distributed():
        with whole_file(path) as whole, whole.open("w", encoding="utf-8") as file:
            yield lambda text: print(text or "", end="", file=file)
        return
    with TemporaryFile("w+", encoding="utf-8") as mine:
        yield lambda text: print(json.dumps(text), file=mine)
        mine.seek(0)
        with ExitStack() as files:
            of_all: Optional[TextIO] = None
            if is_first_rank():
                whole = files.enter_context(whole_file(path))
                of_all = files.enter_context(whole.open("w", encoding="utf-8"))
            while any(of_ranks := gathered(_next_texts(mine))):
                if of_all is not None:
                    of_all.writelines(in_order(of_ranks))


def _next_texts(file: TextIO) -> List[Optional[str]]:
    return [json.loads(line) for line in islice(file, BATCHES_AT_ONCE)]
