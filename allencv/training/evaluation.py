import json
from contextlib import ExitStack
from os import PathLike
from typing import Any, Callable, Dict, Optional, Union

import torch
from allennlp.common import Tqdm
from allennlp.common.checks import check_for_gpu
from allennlp.common.util import dump_metrics, int_to_device
from allennlp.data import DataLoader, TensorDict
from allennlp.evaluation import Evaluator, SimpleEvaluator
from allennlp.models import Model
from allennlp.nn.util import move_to_device

from allencv.runtime.whole_files import whole_file, write_text
from allencv.training.running_losses import LOSS_WEIGHT, RunningLosses, count_images

Outputs = Dict[str, Any]


def evaluate(
    model: Model,
    data_loader: DataLoader,
    cuda_device: Union[int, torch.device] = -1,
    batch_weight_key: Optional[str] = None,
    on_batch: Optional[Callable[[TensorDict, Outputs], None]] = None,
) -> Dict[str, Any]:
    """
    Return the metrics of a model on all images of a data loader. In distributed training every
    rank must call this and evaluates its share.

    AllenNLP's function of this name (`training/util.py`) reports the mean of the batches' losses,
    which changes with the batch size. Here `loss` is the mean over the images; with class weights,
    the weighted mean.

    # Parameters

    batch_weight_key : `str`, optional (default = `None`)
        The key of the model's outputs that says how much the loss of a batch counts, in place of
        the number of its images.
    on_batch : `Callable`, optional (default = `None`)
        Called with each batch and the model's outputs for it.
    """
    if not isinstance(cuda_device, torch.device):
        check_for_gpu(cuda_device)
    device = int_to_device(cuda_device)
    data_loader.set_target_device(device)
    losses = RunningLosses(batch_weight_key or LOSS_WEIGHT)
    model.eval()
    with torch.no_grad():
        for each in Tqdm.tqdm(data_loader):
            batch = move_to_device(each, device)
            outputs = model(**batch)
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
                path = files.enter_context(whole_file(predictions_output_file))
                file = files.enter_context(path.open("w", encoding="utf-8"))

                def write(batch: TensorDict, outputs: Outputs) -> None:
                    line = self.batch_serializer(batch, outputs, data_loader, readable)
                    file.write(f"{line}\n")

            metrics = evaluate(model, data_loader, self.cuda_device, batch_weight_key, write)
        if metrics_output_file is not None:
            dump_metrics(None, metrics, log=True)
            write_text(metrics_output_file, json.dumps(metrics, indent=2))
        return metrics
