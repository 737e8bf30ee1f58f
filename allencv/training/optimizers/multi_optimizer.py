from typing import Any, Dict, List, Optional, Tuple

import torch
from allennlp.common import Lazy
from allennlp.training import optimizers as allennlps
from allennlp.training.optimizers import Optimizer

from allencv.common.checks import CheckedFromParams
from allencv.training.optimizers.torch_optimizer import GroupValue


@Optimizer.register("multi", exist_ok=True)
class MultiOptimizer(CheckedFromParams, allennlps.MultiOptimizer):
    """
    Several optimizers, each for some of the parameters: for example Muon for the weights and SGD
    for the biases.

    AllenNLP's own keeps a copy of the parameter groups, so that learning rate schedules, momentum
    schedules and changes of the config on `--recover` do not reach its optimizers
    (allennlp/training/optimizers.py, `MultiOptimizer`). Here they do. Checkpoints are the same.

    Registered as an `Optimizer` with name "multi".

    # Example

    ```jsonnet
    {
      type: "multi",
      optimizers: {
        default: { type: "sgd", lr: 0.1, momentum: 0.9 },
        matrices: { type: "muon", lr: 0.02 },
      },
      parameter_groups: [[["weight$"], { optimizer_name: "matrices" }]],
    }
    ```

    # Parameters

    model_parameters : `List[Tuple[str, torch.nn.Parameter]]`
        Names and parameters to train. This argument does not get an entry in a configuration file.
    optimizers : `Dict[str, Optimizer]`, required
        The optimizers by names of your choice. "default" gets what no group gives to another.
    parameter_groups : `List[Tuple[List[str], Dict[str, Any]]]`, required
        Lists of regular expressions for the names of parameters, each with the `optimizer_name`
        and other arguments of this optimizer for these parameters.
    model : `torch.nn.Module`, optional (default = `None`)
        The model of the parameters; the trainer passes it. This argument does not get an entry in a
        configuration file.
    """

    def __init__(
        self,
        model_parameters: List[Tuple[str, torch.nn.Parameter]],
        optimizers: Dict[str, Lazy[Optimizer]],
        parameter_groups: List[Tuple[List[str], Dict[str, GroupValue]]],
        model: Optional[torch.nn.Module] = None,
    ) -> None:
        of_model = {
            name: Lazy(optimizer.construct, model=model) for name, optimizer in optimizers.items()
        }
        super().__init__(model_parameters, of_model, parameter_groups)
        self._share_groups()

    def load_state_dict(self, training_state: Dict[str, Any]) -> None:
        super().load_state_dict(training_state)
        self._share_groups()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Remove the gradients, as torch's optimizers do. AllenNLP's sets them to 0 by default."""
        super().zero_grad(set_to_none)

    def _share_groups(self) -> None:
        """Let what changes the groups of this optimizer change those of the others."""
        self.param_groups = [
            group for optimizer in self.optimizers.values() for group in optimizer.param_groups
        ]
