import contextlib
import itertools
import logging
import math
import os
import random
from typing import Any, Dict, Iterator, List, Optional, Tuple, Union

import numpy
import torch
import torch.distributed as dist
from allennlp.common import Lazy, Tqdm
from allennlp.common import util as common_util
from allennlp.common.checks import ConfigurationError
from allennlp.data import DataLoader, TensorDict
from allennlp.models import Model
from allennlp.nn.parallel import DdpAccelerator
from allennlp.nn.util import dist_reduce_sum
from allennlp.training import util as training_util
from allennlp.training.callbacks import ConsoleLoggerCallback, TrainerCallback
from allennlp.training.checkpointer import Checkpointer
from allennlp.training.gradient_descent_trainer import GradientDescentTrainer
from allennlp.training.learning_rate_schedulers import LearningRateScheduler
from allennlp.training.momentum_schedulers import MomentumScheduler
from allennlp.training.moving_average import MovingAverage
from allennlp.training.optimizers import Optimizer
from allennlp.training.trainer import Trainer

from allencv.common.checks import CheckedFromParams, not_one_of
from allencv.training.checkpointer import AtomicCheckpointer, save_state

logger = logging.getLogger(__name__)

AMP_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@Trainer.register("image", constructor="from_partial_objects")
class ImageTrainer(CheckedFromParams, GradientDescentTrainer):
    """
    AllenNLP's trainer, with the same arguments, callbacks and checkpoint files, repaired for
    today's torch:

    * A run that was interrupted goes on where the last checkpoint was made and ends with the same
      weights, to the bit on a CPU, as if it had not been: the state of the random generators is
      part of the checkpoint. With the "image" data loader nothing is decoded to get back there.
    * Mixed precision through `torch.autocast`, on a CPU too, in training and validation; gradients
      are divided by the number of accumulated batches with a gradient scaler as without one.
    * In distributed training gradients are exchanged once for each step of the optimizer, and every
      image of the validation data counts once, however unequal the ranks' shares.

    Registered as a `Trainer` with name "image".

    # Parameters

    The arguments are those of AllenNLP's `GradientDescentTrainer`, with these differences:

    use_amp : `bool`, optional (default = `False`)
        Train and validate in mixed precision.
    amp_dtype : `str`, optional (default = `None`)
        "bfloat16", or "float16" on a GPU, with gradient scaling unless `grad_scaling` is false.
        `None` takes "bfloat16" wherever the device has it.
    checkpointer : `Checkpointer`, optional (default = `AtomicCheckpointer`)
    run_confidence_checks : `bool`, optional (default = `False`)
        AllenNLP's check stops training at a bias in front of a normalisation layer, which many
        well-known image models have.
    """

    def __init__(
        self,
        model: Model,
        optimizer: torch.optim.Optimizer,
        data_loader: DataLoader,
        serialization_dir: Optional[str] = None,
        callbacks: Optional[List[TrainerCallback]] = None,
        enable_default_callbacks: bool = True,
        use_amp: bool = False,
        amp_dtype: Optional[str] = None,
        grad_scaling: bool = True,
        run_confidence_checks: bool = False,
        **kwargs: Any,
    ) -> None:
        callbacks = list(callbacks or [])
        if enable_default_callbacks and ConsoleLoggerCallback not in map(type, callbacks):
            # AllenNLP's default prints the pixels of the first batch.
            callbacks.append(ConsoleLoggerCallback(serialization_dir, should_log_inputs=False))
        # AllenNLP's own mixed precision stays off: torch.cuda.amp is deprecated and refuses a CPU.
        super().__init__(
            model,
            optimizer,
            data_loader,
            serialization_dir=serialization_dir,
            callbacks=callbacks,
            enable_default_callbacks=enable_default_callbacks,
            run_confidence_checks=run_confidence_checks,
            **kwargs,
        )
        self._scaler: Optional[torch.amp.GradScaler] = None
        self._amp_dtype = self._choose_amp_dtype(amp_dtype) if use_amp else None
        if self._amp_dtype == torch.float16 and grad_scaling:
            self._scaler = torch.amp.GradScaler(self.cuda_device.type)
        self._resumable = _ResumableState(self._serialization_dir, self)
        self._callbacks.append(self._resumable)

    def batch_outputs(self, batch: TensorDict, for_training: bool) -> Dict[str, torch.Tensor]:
        with torch.autocast(
            self.cuda_device.type, dtype=self._amp_dtype, enabled=self._amp_dtype is not None
        ):
            if for_training:
                return super().batch_outputs(batch, for_training)
            # Without gradients there is nothing to exchange: the ranks may differ in their batches.
            return self.model(**batch)

    def _train_epoch(self, epoch: int) -> Dict[str, float]:
        accumulated = self._num_gradient_accumulation_steps
        if epoch < self._start_after_epochs_completed:
            self._total_batches_completed += self._skip_epoch(epoch)
            return {}
        if epoch == self._start_after_epochs_completed:
            self._batches_in_epoch_completed = self._start_after_batches_in_epoch_completed
            self._total_batches_completed += self._batches_in_epoch_completed
        steps_done = self._batches_in_epoch_completed
        batches = self._batches(epoch, steps_done * accumulated)
        self._resumable.restore()

        logger.info("Epoch %d/%d", epoch, self._num_epochs - 1)
        metrics: Dict[str, float] = {}
        for name, memory in common_util.peak_cpu_memory().items():
            metrics[f"worker_{name}_memory_MB"] = memory / (1024 * 1024)
        for name, memory in common_util.peak_gpu_memory().items():
            metrics[f"gpu_{name}_memory_MB"] = memory / (1024 * 1024)

        self._pytorch_model.train()
        groups = common_util.lazy_groups_of(batches, accumulated)
        progress = groups
        if self._primary:
            progress = Tqdm.tqdm(groups, total=self._steps_per_epoch(), initial=steps_done)
        losses = _Losses(self.cuda_device)
        for group in progress:
            self.optimizer.zero_grad()
            outputs = [
                self._forward_backward(batch, len(group), last=index == len(group) - 1)
                for index, batch in enumerate(group)
            ]
            losses.add(outputs)
            grad_norm = self._optimizer_step()
            self._batches_in_epoch_completed += 1
            self._total_batches_completed += 1

            step_metrics = self.model.get_metrics() | losses.read()
            for callback in self._callbacks:
                callback.on_batch(
                    self,
                    group,
                    outputs,
                    step_metrics,
                    epoch,
                    self._batches_in_epoch_completed,
                    is_training=True,
                    is_primary=self._primary,
                    batch_grad_norm=grad_norm,
                )
            if self._primary:
                description = training_util.description_from_metrics(step_metrics)
                progress.set_description(description, refresh=False)
            if self._checkpointer is not None:
                self._checkpointer.maybe_save_checkpoint(
                    self, self._epochs_completed, self._batches_in_epoch_completed
                )
        if self._distributed:
            dist.barrier()
        return self.model.get_metrics(reset=True) | losses.read_all_ranks() | metrics

    def _forward_backward(
        self, batch: TensorDict, group_size: int, last: bool
    ) -> Dict[str, torch.Tensor]:
        """One batch of a group that is accumulated. Gradients add up to those of the mean loss."""
        wait = self._distributed and not last
        with self._pytorch_model.no_sync() if wait else contextlib.nullcontext():
            outputs = self.batch_outputs(batch, for_training=True)
            if torch.isnan(outputs["loss"]):
                raise ValueError("nan loss encountered")
            # Callbacks that do the backward pass themselves find the loss to use in the outputs.
            outputs["loss"] = outputs["loss"] / group_size
            backward_called = False
            for callback in self._callbacks:
                backward_called |= callback.on_backward(self, outputs, backward_called)
            if not backward_called:
                loss = outputs["loss"]
                (loss if self._scaler is None else self._scaler.scale(loss)).backward()
            outputs["loss"] = outputs["loss"].detach()
        return outputs

    def _optimizer_step(self) -> Optional[float]:
        grad_norm = self.rescale_gradients()
        self.clip_gradient()
        step = self._total_batches_completed + 1
        if self._learning_rate_scheduler:
            self._learning_rate_scheduler.step_batch(step)
        if self._momentum_scheduler:
            self._momentum_scheduler.step_batch(step)
        if self._scaler is None:
            self.optimizer.step()
        else:
            self._scaler.step(self.optimizer)
            self._scaler.update()
        if self._moving_average is not None:
            self._moving_average.apply(step)
        return grad_norm

    def _save_model_state(self, path: str) -> None:
        # Not in place: the file may be a hard link to a checkpoint.
        module = self.model if self._ddp_wrapped_model is None else self._ddp_wrapped_model
        save_state(module.state_dict(), path + ".tmp")
        os.replace(path + ".tmp", path)

    def _maybe_restore_checkpoint(self) -> None:
        super()._maybe_restore_checkpoint()
        if self._start_after_epochs_completed == 0:
            return
        # AllenNLP makes best.th after the checkpoint of its epoch, which does not know of it yet. A
        # run that was cut off in between has lost the file, or has that of an earlier epoch.
        best = os.path.join(self._serialization_dir, "best.th")
        at_end_of_epoch = self._start_after_batches_in_epoch_completed == 0
        if at_end_of_epoch and self._primary and self._metric_tracker.is_best_so_far():
            with self._averaged():
                self._save_model_state(best)
        if self._distributed:
            dist.barrier()
        if os.path.exists(best):
            self._best_model_filename = best

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[None]:
        """Puts the moving averages in the place of the weights, if there are any."""
        if self._moving_average is None:
            yield
            return
        self._moving_average.assign_average_value()
        try:
            yield
        finally:
            self._moving_average.restore()

    def _validation_loss(self, epoch: int) -> Tuple[float, Optional[float], int]:
        if self._validation_data_loader is None:
            raise ConfigurationError("validation needs validation_data_path in the config")
        logger.info("Validating")
        if hasattr(self._validation_data_loader, "seek"):
            self._validation_data_loader.seek(epoch)  # the same after an interruption
        self._pytorch_model.eval()
        with self._averaged():
            losses = _Losses(self.cuda_device)
            batches = self._validation_data_loader
            progress = Tqdm.tqdm(batches) if self._primary else batches
            for number, batch in enumerate(progress, start=1):
                outputs = self.batch_outputs(batch, for_training=False)
                if "loss" in outputs:
                    losses.add([outputs])
                metrics = self.model.get_metrics() | losses.read()
                if self._primary:
                    description = training_util.description_from_metrics(metrics)
                    progress.set_description(description, refresh=False)
                for callback in self._callbacks:
                    callback.on_batch(
                        self,
                        [batch],
                        [outputs],
                        metrics,
                        epoch,
                        number,
                        is_training=False,
                        is_primary=self._primary,
                    )
            return losses.total.item(), None, losses.count

    def _batches(self, epoch: int, start: int) -> Iterator[TensorDict]:
        """The batches of an epoch from `start` on; in distributed training as many on each rank."""
        if hasattr(self.data_loader, "seek"):
            self.data_loader.seek(epoch, start)
            self.data_loader.another_epoch_follows = epoch + 1 < self._num_epochs
            batches = iter(self.data_loader)
        else:
            # What this loader draws at random has to be drawn again to get to the same place.
            batches = itertools.islice(iter(self.data_loader), start, None)
        if self._distributed:
            batches = itertools.islice(batches, self._batches_on_every_rank() - start)
        return batches

    def _skip_epoch(self, epoch: int) -> int:
        """Passes over an epoch that was trained before an interruption; returns its steps."""
        if hasattr(self.data_loader, "seek"):
            batches = len(self.data_loader)
        else:
            batches = sum(1 for _ in self.data_loader)
        return math.ceil(batches / self._num_gradient_accumulation_steps)

    def _batches_on_every_rank(self) -> int:
        count = torch.tensor(len(self.data_loader), device=self.cuda_device)
        dist.all_reduce(count, dist.ReduceOp.MIN)
        return int(count)

    def _steps_per_epoch(self) -> Optional[int]:
        try:
            return math.ceil(len(self.data_loader) / self._num_gradient_accumulation_steps)
        except TypeError:
            return None

    def _choose_amp_dtype(self, name: Optional[str]) -> torch.dtype:
        on_cpu = self.cuda_device.type == "cpu"
        if name is None:
            return (
                torch.bfloat16
                if on_cpu or torch.cuda.is_bf16_supported(including_emulation=False)
                else torch.float16
            )
        choices = ["bfloat16"] if on_cpu else list(AMP_DTYPES)
        if name not in choices:
            raise not_one_of(f"trainer.amp_dtype on a {self.cuda_device.type}", name, choices)
        return AMP_DTYPES[name]

    @classmethod
    def from_partial_objects(
        cls,
        model: Model,
        serialization_dir: str,
        data_loader: DataLoader,
        validation_data_loader: Optional[DataLoader] = None,
        local_rank: int = 0,
        patience: Optional[int] = None,
        validation_metric: Union[str, List[str]] = "-loss",
        num_epochs: int = 20,
        cuda_device: Optional[int] = None,
        grad_norm: Union[float, bool] = False,
        grad_clipping: Optional[float] = None,
        distributed: bool = False,
        world_size: int = 1,
        num_gradient_accumulation_steps: int = 1,
        use_amp: bool = False,
        amp_dtype: Optional[str] = None,
        grad_scaling: bool = True,
        no_grad: Optional[List[str]] = None,
        optimizer: Lazy[Optimizer] = Lazy(Optimizer.default),
        learning_rate_scheduler: Optional[Lazy[LearningRateScheduler]] = None,
        momentum_scheduler: Optional[Lazy[MomentumScheduler]] = None,
        moving_average: Optional[Lazy[MovingAverage]] = None,
        checkpointer: Optional[Lazy[Checkpointer]] = Lazy(AtomicCheckpointer),
        callbacks: Optional[List[Lazy[TrainerCallback]]] = None,
        enable_default_callbacks: bool = True,
        run_confidence_checks: bool = False,
        ddp_accelerator: Optional[DdpAccelerator] = None,
    ) -> Trainer:
        """
        Builds the trainer from a config, in AllenNLP's order. The arguments stand here in full
        because AllenNLP reads from them what a config may say.
        """
        arguments = {name: value for name, value in locals().items() if name != "cls"}
        arguments.pop("__class__", None)
        return super().from_partial_objects(**arguments)


class _ResumableState(TrainerCallback):
    """
    What a checkpoint of AllenNLP's leaves out: the random generators, and the gradient scaler. It
    travels in the checkpoint as the state of a callback.
    """

    def __init__(self, serialization_dir: str, trainer: ImageTrainer) -> None:
        super().__init__(serialization_dir)
        self.trainer = trainer
        self._saved: Optional[Dict[str, Any]] = None

    def state_dict(self) -> Dict[str, Any]:
        kind, keys, position, has_gauss, gauss = numpy.random.get_state()  # noqa: NPY002
        scaler = self.trainer._scaler
        return {
            "python": random.getstate(),
            "numpy": (kind, list(map(int, keys)), position, has_gauss, gauss),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all(),
            "scaler": None if scaler is None else scaler.state_dict(),
        }

    def load_state_dict(self, state_dict: Dict[str, Any]) -> None:
        self._saved = state_dict

    def restore(self) -> None:
        """Called at the moment that training goes on, after all that may have drawn before it."""
        saved, self._saved = self._saved, None
        if not saved:
            return
        random.setstate(saved["python"])
        numpy.random.set_state(saved["numpy"])  # noqa: NPY002
        torch.set_rng_state(saved["torch"])
        if len(saved["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(saved["cuda"])
        if self.trainer._scaler is not None and saved["scaler"] is not None:
            self.trainer._scaler.load_state_dict(saved["scaler"])


class _Losses:
    """The losses of an epoch, added up on their device and read only when asked for."""

    def __init__(self, device: torch.device) -> None:
        self.total = torch.zeros((), device=device)
        self.count = 0
        self._last: Dict[str, torch.Tensor] = {}
        self._reg_total: Optional[torch.Tensor] = None

    def add(self, outputs: List[Dict[str, torch.Tensor]]) -> None:
        """Adds the batches of one step, whose losses are shares of the step's."""
        self._last = {"batch_loss": torch.stack([each["loss"].detach() for each in outputs]).sum()}
        self.total += self._last["batch_loss"]
        self.count += 1
        if "reg_loss" in outputs[0]:
            penalty = outputs[-1]["reg_loss"].detach()
            self._last["batch_reg_loss"] = penalty
            self._reg_total = penalty + (0 if self._reg_total is None else self._reg_total)

    def read(self) -> Dict[str, float]:
        if self.count == 0:
            return {}
        metrics = {name: value.item() for name, value in self._last.items()}
        metrics["loss"] = self.total.item() / self.count
        if self._reg_total is not None:
            metrics["reg_loss"] = self._reg_total.item() / self.count
        return metrics

    def read_all_ranks(self) -> Dict[str, float]:
        """The mean losses over all ranks, without those of the last batch."""
        count = dist_reduce_sum(self.count)
        if count == 0:
            return {}
        metrics = {"loss": float(dist_reduce_sum(self.total.item()) / count)}
        if self._reg_total is not None:
            metrics["reg_loss"] = float(dist_reduce_sum(self._reg_total.item()) / count)
        return metrics
