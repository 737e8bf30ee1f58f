from typing import Optional, Tuple, Union

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.models import Model
from allennlp.nn.parallel import DdpAccelerator, DdpWrappedModel, TorchDdpAccelerator
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook

from allencv.training.distributed.sync_batch_norm import sync_batch_norm as synchronize


@DdpAccelerator.register("torch", exist_ok=True)
class ImageDdpAccelerator(TorchDdpAccelerator):
    """
    Exchanges gradients with torch's `DistributedDataParallel`.

    Replaces AllenNLP's class of this name (`nn/parallel/ddp_accelerator.py`), which has the first
    key only. If a config has no `distributed.ddp_accelerator`, this one is used.

    Registered as a `DdpAccelerator` with name "torch".

    # Parameters

    find_unused_parameters : `bool`, optional (default = `False`)
        Whether a step may leave parameters without gradients, as when callbacks unfreeze layers.
        It makes steps slower.
    sync_batch_norm : `bool`, optional (default = `False`)
        Whether batch normalisation uses the images of all ranks. Use it for fewer than about 16
        images per rank; it makes steps slower. Otherwise each rank normalises its own images, and
        the running statistics are those of the first rank.
    bf16_gradients : `bool`, optional (default = `False`)
        Whether to exchange gradients in bfloat16: half the bytes, and less exact sums.
    static_graph : `bool`, optional (default = `False`)
        Whether each step uses the same parameters in the same order. DDP is then faster, and
        allows parameters without gradients, and gradient checkpointing.
    """

    def __init__(
        self,
        *,
        find_unused_parameters: bool = False,
        sync_batch_norm: bool = False,
        bf16_gradients: bool = False,
        static_graph: bool = False,
        local_rank: Optional[int] = None,
        world_size: Optional[int] = None,
        cuda_device: Union[torch.device, int] = -1,
    ) -> None:
        super().__init__(
            find_unused_parameters=find_unused_parameters,
            local_rank=local_rank,
            world_size=world_size,
            cuda_device=cuda_device,
        )
        if find_unused_parameters and static_graph:
            raise ConfigurationError(
                "distributed.ddp_accelerator has both find_unused_parameters and static_graph; "
                "expected one of them: static_graph finds unused parameters by itself"
            )
        self._ddp_kwargs["static_graph"] = static_graph
        self._sync_batch_norm = sync_batch_norm
        self._bf16_gradients = bf16_gradients

    def wrap_model(self, model: Model) -> Tuple[Model, DdpWrappedModel]:
        model, wrapped = super().wrap_model(model)
        if self._sync_batch_norm:  # only now: on a CPU, DDP refuses a model that has it
            synchronize(model, self.cuda_device)
        if self._bf16_gradients:
            wrapped.model.register_comm_hook(None, bf16_compress_hook)
        return model, wrapped
