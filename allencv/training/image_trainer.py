import contextlib
import itertools
import logging
import os
from collections import deque
from typing import (
    Any,
    ContextManager,
    Deque,
    Dict,
    Iterable,
    Iterator,
    List,
    Optional,
    Tuple,
    Union,
)

import torch
import torch.distributed as dist
from allennlp.common import Lazy
from allennlp.common import util as common_util
from allennlp.common.checks import ConfigurationError
from allennlp.data import DataLoader, TensorDict
from allennlp.models import Model
from allennlp.nn.parallel import DdpAccelerator
from allennlp.training.callbacks import ConsoleLoggerCallback, TrainerCallback
from allennlp.training.checkpointer import Checkpointer, TrainerCheckpoint
from allennlp.training.gradient_descent_trainer import GradientDescentTrainer
from allennlp.training.learning_rate_schedulers import LearningRateScheduler
from allennlp.training.momentum_schedulers import MomentumScheduler
from allennlp.training.moving_average import MovingAverage
from allennlp.training.optimizers import Optimizer
from allennlp.training.trainer import Trainer

from allencv.common.checks import CheckedFromParams
from allencv.common.memory import KEPT_BYTES, reuse_freed_memory
from allencv.predictions.all_ranks import (
    LoaderForEvaluation,
    check_readable,
    copy_buffers,
    every_image_once,
    pass_turn,
)
from allencv.training.acceleration import (
    SmallMapsInFloat32,
    choose_amp_dtype,
    set_memory_format,
)
from allencv.training.apple_gpu import apple_gpu
from allencv.training.callbacks.epoch_table import EpochTable
from allencv.training.callbacks.write_predictions import WritePredictions
from allencv.training.checkpointer import AtomicCheckpointer, load_state, save_state
from allencv.training.compilation import Compilation
from allencv.training.cudnn_autotuning import CudnnAutotuning
from allencv.training.distributed.from_first_rank import from_first_rank
from allencv.training.distributed.stand_in import without_effect
from allencv.training.epoch_batches import (
    BatchOfRank,
    batches_from,
    count_batches,
    count_steps,
    in_step,
    most_batches,
    skip_epoch,
)
from allencv.training.failures import explain, not_finite
from allencv.training.frozen_features import SEVERAL_PROCESSES, FrozenFeatures
from allencv.training.lazy_metrics import LazyMetrics
from allencv.training.learning_rate_schedulers import ReduceOnPlateauLearningRateScheduler
from allencv.training.metric_tracker import MetricTrackerWithTies
from allencv.training.prepared_parts import with_statistics, with_steps_per_epoch
from allencv.training.progress import Progress
from allencv.training.protocols import SeekableLoader, TrainableClassifier
from allencv.training.resumable_state import ResumableState
from allencv.training.running_losses import LOSS_WEIGHT, RunningLosses, count_images
from allencv.training.schedule_rehearsal import rehearsed
from allencv.training.time_limit import TimeLimit, seconds_of
from allencv.training.trainer_checks import check_gpu, check_trainer_values, metric_names_of

logger = logging.getLogger(__name__)


@Trainer.register("image", constructor="from_partial_objects")
class ImageTrainer(CheckedFromParams, GradientDescentTrainer):
    """
    AllenNLP's trainer, with the same arguments, callbacks and checkpoint files, for images and
    current torch:

    * No step waits for the device: losses and metrics stay there, and are read once per
      `log_interval`, at the end of an epoch, and when a callback reads them.
    * An interrupted run resumes at the last checkpoint and ends with the same metrics and the same
      weights, bit for bit on a CPU: a checkpoint holds the random generators and the counts of the
      metrics. The "image" data loader decodes nothing to get back there.
    * Mixed precision through `torch.autocast`, on a CPU too, in training and validation.
    * Losses are means over images, whatever the batch sizes. In accumulated gradients each batch
      counts by its number of images.
    * In distributed training a step has the mean loss over the images of all ranks, every image
      counts once, even if the ranks' shares differ, and gradients are exchanged once per step.
    * A moving average includes the running statistics of batch normalisation.
    * Of epochs with an equal `validation_metric`, the one with the lowest validation loss is kept.
    * The callback "write_predictions" is on by default. It saves what `allencv report` needs.

    Registered as a `Trainer` with name "image".

    # Example

    ```jsonnet
    {
      type: "image",
      num_epochs: 20,
      validation_metric: "+accuracy",
      optimizer: { type: "adamw", lr: 0.001 },
      learning_rate_scheduler: { type: "warmup_cosine", warmup_epochs: 1 },
    }
    ```

    # Parameters

    The arguments are those of AllenNLP's `GradientDescentTrainer`, with these differences:

    use_amp : `bool`, optional (default = `None`)
        Train and validate in mixed precision. `None` does so if the device computes in bfloat16
        itself: an NVIDIA GPU since Ampere; a CPU with AMX or AVX-512 BF16, but there only for
        networks of dense convolutions, such as ResNet.
    amp_dtype : `str`, optional (default = `None`)
        "bfloat16", or "float16" on a GPU, with gradient scaling unless `grad_scaling` is false.
        `None` is "bfloat16" if the device has it.
    channels_last : `bool`, optional (default = `None`)
        Keep the weights of convolutions in the memory order `(height, width, channels)`. `None`
        does so on a CPU and on an NVIDIA GPU, except for the few networks with which torch then
        crashes on a CPU.
    compile : `Union[bool, List[str]]`, optional (default = `False`)
        Compile the model with `torch.compile`, or only the named parts, such as "_im2im_encoder".
        The first steps then take minutes. Archives do not change.
    cudnn_benchmark : `bool`, optional (default = `None`)
        On an NVIDIA GPU, let cuDNN measure its algorithms for convolutions and use the fastest, for
        batches of a shape that repeats. `None` does so, unless torch's deterministic algorithms
        are on. Results then differ slightly from run to run.
    log_interval : `float`, optional (default = `1.0`)
        The seconds between two readings of the loss and the metrics.
    time_limit : `str`, optional (default = `None`)
        The most time for all epochs with their validations, such as "90s", "10m" or "1.5h". If
        `num_epochs` would take longer, the schedules of the learning rate and the momentum go
        faster, and training ends in time with fewer steps and the schedules at their end. Schedules
        by epoch and callbacks that count epochs, such as "progressive_resizing", do not follow. It
        needs a data loader that knows its length, and one process.
    frozen_features : `FrozenFeatures`, optional (default = `None`)
        Compute the features of a frozen encoder once, and train what follows it on them.
    cuda_device : `Union[int, str]`, optional (default = the first GPU, or else the CPU)
        The number of a GPU, -1 for the CPU, or "mps" for the GPU of an Apple computer (not
        tested).
    checkpointer : `Checkpointer`, optional (default = `AtomicCheckpointer`)
    run_confidence_checks : `bool`, optional (default = `False`)
        AllenNLP's check stops training at a bias before a normalisation layer, which many
        well-known image models have.

    # Raises

    `TrainingError` if memory runs out, or if the loss is not finite, with the images of the batch.
    The model and its optimizer with such a loss are saved in `not_finite.th`.
    """

    _num_epochs: int

    takes_steps = True
    """Whether training takes gradient steps, with a learning rate."""

    def __init__(
        self,
        model: Model,
        optimizer: torch.optim.Optimizer,
        data_loader: DataLoader,
        serialization_dir: Optional[str] = None,
        callbacks: Optional[List[TrainerCallback]] = None,
        enable_default_callbacks: bool = True,
        use_amp: Optional[bool] = None,
        amp_dtype: Optional[str] = None,
        grad_scaling: bool = True,
        channels_last: Optional[bool] = None,
        compile: Union[bool, List[str]] = False,
        cudnn_benchmark: Optional[bool] = None,
        log_interval: float = 1.0,
        time_limit: Optional[str] = None,
        frozen_features: Optional[FrozenFeatures] = None,
        run_confidence_checks: bool = False,
        device: Optional[torch.device] = None,
        **kwargs: Any,
    ) -> None:
        has_validation = kwargs.get("validation_data_loader") is not None
        names = metric_names_of(model) if has_validation else None
        check_trainer_values({**kwargs, "log_interval": log_interval}, has_validation, names)
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise ConfigurationError(
                "no parameter of the model is trained; expected a narrower trainer.no_grad, or "
                "fewer frozen parts of the model (requires_grad, trainable_layers)"
            )
        callbacks = list(callbacks or [])
        has_console = any(isinstance(each, ConsoleLoggerCallback) for each in callbacks)
        if enable_default_callbacks and not has_console:
            callbacks.append(EpochTable(serialization_dir))
        is_missing = enable_default_callbacks and WritePredictions not in map(type, callbacks)
        if is_missing and serialization_dir is not None:
            # Last, so that it sees the weights that other callbacks have set, such as averages.
            callbacks.append(WritePredictions(serialization_dir))
        # AllenNLP's own mixed precision stays off: torch.cuda.amp is deprecated and refuses a CPU.
        super().__init__(
            model,
            optimizer,
            data_loader,
            serialization_dir=serialization_dir,
            callbacks=callbacks,
            enable_default_callbacks=False,  # they are added above
            run_confidence_checks=run_confidence_checks,
            **kwargs,
        )
        metric = kwargs.get("validation_metric", "-loss")
        self._metric_tracker = MetricTrackerWithTies(metric, kwargs.get("patience"))
        if device is not None:
            self.cuda_device = device
            for loader in (self.data_loader, self._validation_data_loader):
                if loader is not None:
                    loader.set_target_device(device)
        if isinstance(self._learning_rate_scheduler, ReduceOnPlateauLearningRateScheduler):
            self._learning_rate_scheduler.check(
                self._metric_tracker.tracked_metrics, self._validation_data_loader is not None
            )
        if self.cuda_device.type == "cpu":
            reuse_freed_memory(KEPT_BYTES)
        self._amp_dtype = choose_amp_dtype(model, self.cuda_device, use_amp, amp_dtype)
        self._autocast: ContextManager[Any] = contextlib.nullcontext()
        if self._amp_dtype is not None:
            self._autocast = torch.autocast(self.cuda_device.type, self._amp_dtype)
            if self.cuda_device.type == "cpu":
                SmallMapsInFloat32(model)
        self._scaler: Optional[torch.amp.GradScaler] = None
        if self._amp_dtype == torch.float16 and grad_scaling:
            self._scaler = torch.amp.GradScaler(self.cuda_device.type)
        set_memory_format(model, channels_last, self.cuda_device)
        self._compilation = Compilation(model, compile)
        self._autotuning = CudnnAutotuning(self.cuda_device, cudnn_benchmark)
        self._log_interval = log_interval
        self._time_limit = None if time_limit is None else self._limit(time_limit)
        self._epoch_trained: Optional[float] = None  # the time when it ended, before validation
        self._losses = RunningLosses()
        self._unchecked: List[List[List[Any]]] = []  # the metadata of the batches of each step
        self._last_grad_norm: Optional[torch.Tensor] = None
        # Of the batches that have been read for the next step
        self._of_ranks: Deque[BatchOfRank] = deque()
        self._cpu_group: Any = None
        if self._distributed:
            self._prepare_for_ranks()
        self._frozen_features = frozen_features
        self._while_training = contextlib.ExitStack()
        if frozen_features is not None and self._distributed:
            raise ConfigurationError(SEVERAL_PROCESSES)
        self._resumable = ResumableState(self._serialization_dir, self)
        self._callbacks.append(self._resumable)

    def train(self) -> Dict[str, Any]:
        try:
            with self._while_training:
                return super().train()
        except Exception as error:
            explained = explain(error, self)
            if explained is None:
                raise
            raise explained from error

    def _try_train(self) -> Tuple[Dict[str, Any], int]:
        num_epochs = self._num_epochs
        at_end_of_epoch = self._start_after_batches_in_epoch_completed == 0
        if self._time_limit is not None:
            self._metric_tracker.is_over = self._time_limit.is_over
        if at_end_of_epoch and self._metric_tracker.should_stop_early():
            # The run has ended before. AllenNLP would train one more epoch and then stop.
            self._num_epochs = self._start_after_epochs_completed
        self._say_if_nothing_is_left(num_epochs)
        if self._frozen_features is not None:
            self._while_training.enter_context(self.features_in_place_of_images())
            for callback in self._callbacks:
                if isinstance(callback, EpochTable):
                    callback.start_epoch()  # without the time for the features
        try:
            metrics, epoch = super()._try_train()
        finally:
            self._num_epochs = num_epochs
        self._resumable.add_earlier(metrics)
        return metrics, epoch

    def features_in_place_of_images(self) -> ContextManager[None]:
        """Let the data loaders give features in the block, if `frozen_features` is set."""
        if self._frozen_features is None:
            return contextlib.nullcontext()
        return self._frozen_features.in_place_of_images(self, self._autocast, self._amp_dtype)

    def _say_if_nothing_is_left(self, num_epochs: int) -> None:
        completed = self._start_after_epochs_completed
        if completed < self._num_epochs:
            return
        run = f"the run in {self._serialization_dir}"
        tracker = self._metric_tracker
        if tracker.is_over:
            logger.warning(
                "Nothing is left to train: %s ended after %d of %d epochs, because of "
                "trainer.time_limit. Start a new run with a longer one to train longer",
                *(run, completed, num_epochs),
            )
        elif completed < num_epochs:
            logger.warning(
                "Nothing is left to train: %s ended after %d of %d epochs, because its best epoch "
                "is %s and trainer.patience is %s. Raise trainer.patience to continue",
                *(run, completed, num_epochs, (tracker.best_epoch or 0) + 1, tracker._patience),
            )
        else:
            logger.warning(
                "Nothing is left to train: %s has completed %d epochs, as trainer.num_epochs says. "
                "Raise trainer.num_epochs to train longer",
                *(run, completed),
            )

    def batch_outputs(self, batch: TensorDict, for_training: bool) -> Dict[str, torch.Tensor]:
        with self._autocast, self._compilation(self.model, batch):
            if for_training:
                return super().batch_outputs(batch, for_training)
            # Without gradients to exchange, the ranks may have different numbers of batches.
            return self.model(**batch)

    def _train_epoch(self, epoch: int) -> Dict[str, float]:
        accumulated = self._num_gradient_accumulation_steps
        if self._time_limit is not None and self._epoch_trained is not None:
            self._time_limit.add_validation(self._resumable.seconds() - self._epoch_trained)
        if epoch < self._start_after_epochs_completed:
            skip_epoch(self.data_loader)
            return {}
        if epoch == self._start_after_epochs_completed:
            self._batches_in_epoch_completed = self._start_after_batches_in_epoch_completed
        steps_done = self._batches_in_epoch_completed
        batches = self._batches(epoch, steps_done * accumulated)
        if self._time_limit is not None and self._time_limit.is_over:
            batches = iter(())  # the run was cut off between its last step and its end
        if self._frozen_features is not None:
            self._frozen_features.frozen_part(self.model)  # no callback may have changed it
        self._losses = losses = RunningLosses()
        self._resumable.restore()

        logger.info("Epoch %d/%d", epoch + 1, self._num_epochs)
        self._pytorch_model.train()
        groups = common_util.lazy_groups_of(batches, accumulated)
        num_steps = count_steps(count_batches(self.data_loader), accumulated)
        title = f"Epoch {epoch + 1}/{self._num_epochs}"
        progress = self._progress(title, groups, num_steps, steps_done)
        for group in progress:
            outputs = self._step(group)
            self._batches_in_epoch_completed += 1
            self._total_batches_completed += 1
            step_metrics = LazyMetrics(lambda: self.model.get_metrics() | losses.read())
            if progress.is_due():
                self._check_losses()
                progress.show(step_metrics)
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
                    batch_grad_norm=self._last_grad_norm,
                )
            if self._checkpointer is not None:
                self._checkpointer.maybe_save_checkpoint(
                    self, self._epochs_completed, self._batches_in_epoch_completed
                )
            if self._time_limit is not None and self._time_limit.is_over:
                self._end_in_time(epoch, num_steps)
                break
        if self._batches_in_epoch_completed == 0:
            if isinstance(self.data_loader, LoaderForEvaluation):
                check_readable(self.data_loader)
            raise ConfigurationError(
                "the epoch has no batch; expected more images, or a data loader with a smaller "
                "batch_size or without drop_last"
            )
        self._check_losses()
        if self._distributed:
            self._share_statistics()
        metrics = self.model.get_metrics(reset=True) | losses.read_all_ranks()
        self._epoch_trained = self._resumable.seconds()
        for name, memory in common_util.peak_cpu_memory().items():
            metrics[f"worker_{name}_memory_MB"] = memory / (1024 * 1024)
        for name, memory in common_util.peak_gpu_memory().items():
            metrics[f"gpu_{name}_memory_MB"] = memory / (1024 * 1024)
        return metrics

    def _limit(self, text: str) -> TimeLimit:
        """Return the limit of time for the steps of all epochs."""
        seconds = seconds_of("trainer.time_limit", text)
        steps = count_steps(count_batches(self.data_loader), self._num_gradient_accumulation_steps)
        if steps is None or self._distributed:
            missing = "the data loader does not know its length"
            if self._distributed:
                missing = "training has several processes, whose clocks may differ"
            raise ConfigurationError(
                f"trainer.time_limit is {text!r}, but {missing}; expected no time_limit"
            )
        batches = 0
        if self._validation_data_loader is not None:
            batches = count_batches(self._validation_data_loader) or 0
        return TimeLimit(seconds, self._num_epochs, steps, batches)

    def _end_in_time(self, epoch: int, num_steps: Optional[int]) -> None:
        """Make this epoch the last one."""
        self._metric_tracker.is_over = True
        if (epoch + 1, self._batches_in_epoch_completed) != (self._num_epochs, num_steps):
            logger.warning(
                "trainer.time_limit ends training in epoch %d of %d, after %d of %s steps; the "
                "learning rate schedule has come to its end",
                *(epoch + 1, self._num_epochs, self._batches_in_epoch_completed, num_steps),
            )

    def _progress(
        self, title: str, steps: Iterable[List[TensorDict]], total: Optional[int], done: int = 0
    ) -> Progress:
        main = [name for _, name in self._metric_tracker.tracked_metrics]
        return Progress(title, steps, total, done, self._log_interval, self._primary, main)

    def _step(self, group: List[TensorDict]) -> List[Dict[str, torch.Tensor]]:
        """
        Make one optimizer step, with the mean loss over the images of some batches, on all ranks.
        """
        self.optimizer.zero_grad()
        batches = [self._of_ranks.popleft() for _ in group]
        images = [each.images for each in batches]
        of_all_ranks = sum(each.of_all_ranks for each in batches)
        outputs = []
        for batch in batches:
            share = batch.of_all_ranks / of_all_ranks
            outputs.append(self._forward_backward(batch, share, batch is batches[-1]))
        self._losses.add(outputs, images)
        self._unchecked.append([batch.get("metadata", []) for batch in group])
        self._last_grad_norm = self.rescale_gradients()
        self.clip_gradient()
        step = scheduled = self._total_batches_completed + 1
        if self._time_limit is not None:
            scheduled = self._time_limit.advance(self._resumable.seconds())
        if self._learning_rate_scheduler:
            self._learning_rate_scheduler.step_batch(scheduled)
        if self._momentum_scheduler:
            self._momentum_scheduler.step_batch(scheduled)
        if self._scaler is None:
            self.optimizer.step()
        else:
            self._scaler.step(self.optimizer)
            self._scaler.update()
        if self._moving_average is not None:
            self._moving_average.apply(step)
        return outputs

    def _forward_backward(
        self, of_rank: BatchOfRank, share: float, last: bool
    ) -> Dict[str, torch.Tensor]:
        """
        Run one batch of an accumulated group, with its `share` of the images of the group. The
        gradients add up to those of the mean loss over the images. Return the outputs with the
        mean loss of the batch.
        """
        wait = self._distributed and not last
        stands_in = of_rank.images == 0
        with (
            self._pytorch_model.no_sync() if wait else contextlib.nullcontext(),
            without_effect(self.model, self.cuda_device) if stands_in else contextlib.nullcontext(),
            self._autotuning(of_rank.batch),
        ):
            outputs = self.batch_outputs(of_rank.batch, for_training=True)
            loss = outputs["loss"].detach()
            if stands_in:
                loss = torch.zeros_like(loss)
                if LOSS_WEIGHT in outputs:
                    outputs[LOSS_WEIGHT] = torch.zeros_like(outputs[LOSS_WEIGHT])
            weight = share * self._weight_of_rank(of_rank, outputs)
            # Callbacks that do the backward pass themselves use the loss in the outputs.
            if not isinstance(weight, float) or weight != 1:
                outputs["loss"] = outputs["loss"] * weight
            backward_called = False
            for callback in self._callbacks:
                backward_called |= callback.on_backward(self, outputs, backward_called)
            if not backward_called:
                total = outputs["loss"]
                (total if self._scaler is None else self._scaler.scale(total)).backward()
            outputs["loss"] = loss
        return outputs

    def _weight_of_rank(
        self, of_rank: BatchOfRank, outputs: Dict[str, torch.Tensor]
    ) -> Union[float, torch.Tensor]:
        """
        Return what to multiply the mean loss over a batch with, so that the mean of the ranks,
        which is their gradients' too, is the mean over all their images.
        """
        if not self._distributed:
            return 1.0
        if LOSS_WEIGHT not in outputs:
            return of_rank.images * self._world_size / of_rank.of_all_ranks
        # With class weights it is a weighted mean, and the ranks do not know each other's weights.
        total = outputs[LOSS_WEIGHT].clone()
        dist.all_reduce(total)
        is_zero = total == 0
        return outputs[LOSS_WEIGHT] * self._world_size / torch.where(is_zero, 1, total)

    def rescale_gradients(self) -> Optional[torch.Tensor]:
        """
        Clip the norm of the gradients to `grad_norm`, if that is a number. Return the norm before,
        on the device, or `None` if `grad_norm` is false.
        """
        if self._grad_norm is False:
            return None
        if self._scaler is not None:
            self._scaler.unscale_(self.optimizer)
        if self._grad_norm is True:
            gradients = [each.grad for each in self.model.parameters() if each.grad is not None]
            return torch.nn.utils.get_total_norm(gradients)
        if self._ddp_wrapped_model is not None:
            return self._ddp_wrapped_model.clip_grad_norm_(self._grad_norm)
        return torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._grad_norm)

    def _check_losses(self) -> None:
        """Raise `TrainingError` if a loss since the last check is not finite."""
        self._losses.read()
        unchecked, self._unchecked = self._unchecked, []
        bad = self._losses.first_bad
        if bad is None:
            return
        batches = unchecked[bad - (self._losses.steps - len(unchecked))]
        images = list(itertools.chain.from_iterable(batches))
        step = self._batches_in_epoch_completed - self._losses.steps + bad + 1
        raise not_finite(self, self._losses.bad_value, step, images)

    def get_checkpoint_state(self) -> Optional[TrainerCheckpoint]:
        self._check_losses()  # never resume from a model that is lost
        self._resumable.collect()
        return super().get_checkpoint_state()

    def _save_model_state(self, path: str) -> None:
        module = self.model if self._ddp_wrapped_model is None else self._ddp_wrapped_model
        save_state(module.state_dict(), path)

    def _load_model_state(self, path: str) -> None:
        module = self.model if self._ddp_wrapped_model is None else self._ddp_wrapped_model
        module.load_state_dict(from_first_rank(lambda: load_state(path)))

    def _maybe_restore_checkpoint(self) -> None:
        super()._maybe_restore_checkpoint()
        self._resumable.apply_changed_config()
        completed = self._start_after_epochs_completed
        in_epoch = self._start_after_batches_in_epoch_completed > 0
        if completed + in_epoch > self._num_epochs:
            raise ConfigurationError(
                f"trainer.num_epochs is {self._num_epochs}, but the run in "
                f"{self._serialization_dir} has reached epoch {completed + in_epoch}; expected "
                f"{completed + in_epoch} or more"
            )
        if completed == 0:
            return
        # AllenNLP writes best.th after the checkpoint of its epoch. A run that was cut off in
        # between lacks the file, or has that of an earlier epoch.
        best = os.path.join(self._serialization_dir, "best.th")
        if not in_epoch and self._primary and self._metric_tracker.is_best_so_far():
            with self._averaged():
                self._save_model_state(best)
        if from_first_rank(lambda: os.path.exists(best)):
            self._best_model_filename = best

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[None]:
        """Replace the weights by their moving averages, if there are any."""
        if self._moving_average is None:
            yield
            return
        self._moving_average.assign_average_value()
        try:
            yield
        finally:
            self._moving_average.restore()

    def _validation_loss(self, epoch: int) -> Tuple[float, Optional[float], float]:
        """
        Return the sum of the losses of the validation images, no penalty, and the number of images
        (with class weights, the sum of their weights). With several ranks, these are of this rank.
        """
        if self._validation_data_loader is None:
            raise ConfigurationError("validation needs validation_data_path in the config")
        logger.info("Validating")
        if isinstance(self._validation_data_loader, SeekableLoader):
            self._validation_data_loader.seek(epoch)  # the same after an interruption
        self._pytorch_model.eval()
        with self._averaged():
            copy_buffers(self.model)
            losses = RunningLosses()
            with every_image_once(self._validation_data_loader):
                self._validate(self._validation_data_loader, epoch, losses)
            if isinstance(self.model, TrainableClassifier):
                self.model.on_validation_end()
            losses.read()
            sums = torch.tensor([losses.total, losses.weight], dtype=torch.float64)
            # AllenNLP adds up the ranks' numbers: floats in float32, and tensors as they are.
            total, weight = sums if common_util.is_distributed() else sums.tolist()
            return total, None, weight

    def _validate(self, loader: DataLoader, epoch: int, losses: RunningLosses) -> None:
        """Count the validation images of this rank in the metrics of the model and in `losses`."""
        groups = ([batch] for batch in loader)
        progress = self._progress("Validation", groups, count_batches(loader))
        for number, group in enumerate(progress, start=1):
            if not group[0]:  # no image of the batch can be read
                pass_turn(self.model)
                continue
            with self._autotuning(group[0]):
                outputs = self.batch_outputs(group[0], for_training=False)
            if "loss" in outputs:
                losses.add([outputs], [count_images(group[0])])
            metrics = LazyMetrics(lambda: self.model.get_metrics() | losses.read())
            if progress.is_due():
                progress.show(metrics)
            for callback in self._callbacks:
                callback.on_batch(
                    self,
                    group,
                    [outputs],
                    metrics,
                    epoch,
                    number,
                    is_training=False,
                    is_primary=self._primary,
                )

    def _batches(self, epoch: int, start: int) -> Iterator[TensorDict]:
        """Return the batches of an epoch from `start` on, equally many on each rank."""
        left_out = self._resumable.batches_left_out if start else 0
        is_last = epoch + 1 >= self._num_epochs
        loader = self.data_loader
        batches = batches_from(loader, epoch, start, left_out, is_last)

        def count(batch: int) -> Optional[int]:
            known = isinstance(loader, SeekableLoader)
            return loader.count_images(start + batch) if known else None

        def leave_out() -> None:
            if isinstance(loader, SeekableLoader):
                loader.batches_left_out += 1

        of_ranks = (
            in_step(batches, count, self._cpu_group, self.cuda_device, leave_out)
            if self._distributed
            else (BatchOfRank(each, *[count_images(each)] * 2) for each in batches)
        )
        return self._noted(of_ranks)

    def _noted(self, batches: Iterable[BatchOfRank]) -> Iterator[TensorDict]:
        """Yield the batches, and note for `_step` how many images of each count."""
        self._of_ranks.clear()
        for batch in batches:
            self._of_ranks.append(batch)
            yield batch.batch

    def _share_statistics(self) -> None:
        """
        Give all ranks the running statistics of the first, which its checkpoints hold. During the
        epoch, each rank has counted its own last batch.
        """
        averages = {} if self._moving_average is None else self._moving_average._shadows
        statistics = [
            average
            for name, average in averages.items()
            if name.endswith(("running_mean", "running_var"))
        ]
        for tensor in [*self.model.buffers(), *statistics]:
            dist.broadcast(tensor, 0)

    def _prepare_for_ranks(self) -> None:
        """
        Prepare for training with other ranks.

        # Raises

        `ConfigurationError` if there are more ranks than images, or with settings of DDP that
        exclude each other.
        """
        if isinstance(self.data_loader, SeekableLoader):
            self.data_loader.keep_pace()
        is_static = getattr(self._pytorch_model, "static_graph", False)
        if is_static and self._num_gradient_accumulation_steps > 1:
            raise ConfigurationError(
                "distributed.ddp_accelerator.static_graph is true, but "
                "trainer.num_gradient_accumulation_steps is "
                f"{self._num_gradient_accumulation_steps}; expected 1, as torch's "
                "DistributedDataParallel cannot do both"
            )
        self._cpu_group = dist.new_group(backend="gloo")
        # Other draws on each rank, of dropout for example, from here on
        torch.manual_seed(torch.initial_seed() + dist.get_rank())

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
        cuda_device: Optional[Union[int, str]] = None,
        grad_norm: Union[float, bool] = False,
        grad_clipping: Optional[float] = None,
        distributed: bool = False,
        world_size: int = 1,
        num_gradient_accumulation_steps: int = 1,
        use_amp: Optional[bool] = None,
        amp_dtype: Optional[str] = None,
        grad_scaling: bool = True,
        channels_last: Optional[bool] = None,
        compile: Union[bool, List[str]] = False,
        cudnn_benchmark: Optional[bool] = None,
        log_interval: float = 1.0,
        time_limit: Optional[str] = None,
        frozen_features: Optional[FrozenFeatures] = None,
        no_grad: Optional[List[str]] = None,
        optimizer: Lazy[Optimizer] = Lazy(Optimizer),
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
        Build the trainer from a config, in AllenNLP's order. All arguments are listed, because
        AllenNLP reads the allowed keys of a config from them.
        """
        arguments = {name: value for name, value in locals().items() if name != "cls"}
        arguments.pop("__class__", None)
        check_trainer_values(arguments, validation_data_loader is not None)
        if isinstance(cuda_device, int):
            check_gpu(cuda_device)
        if isinstance(cuda_device, str):
            arguments["device"] = apple_gpu(cuda_device)
            arguments["cuda_device"] = -1
            model.to(arguments["device"])  # before the optimizer gets its parameters
        # For parameter groups that depend on the model: AllenNLP passes only its parameters.
        arguments["optimizer"] = Lazy(optimizer.construct, model=model)
        if moving_average is not None:
            arguments["moving_average"] = with_statistics(moving_average, model)
        steps = count_steps(count_batches(data_loader), num_gradient_accumulation_steps)
        if distributed:
            device = common_util.int_to_device(cuda_device if isinstance(cuda_device, int) else -1)
            # The wrapper that exchanges gradients needs the memory format to be set before.
            set_memory_format(model, channels_last, device)
            most = most_batches(data_loader, device)
            steps = count_steps(most, num_gradient_accumulation_steps)
            if learning_rate_scheduler is not None and steps is not None:
                arguments["learning_rate_scheduler"] = with_steps_per_epoch(
                    learning_rate_scheduler, steps
                )
        for name in ("learning_rate_scheduler", "momentum_scheduler"):
            if arguments[name] is not None:
                arguments[name] = rehearsed(f"trainer.{name}", arguments[name], num_epochs, steps)
        return super().from_partial_objects(**arguments)
