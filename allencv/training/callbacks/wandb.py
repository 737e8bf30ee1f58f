from typing import Any, Optional

from allennlp.training.callbacks.callback import TrainerCallback
from allennlp.training.callbacks.wandb import WandBCallback as AllenNLPWandBCallback
from allennlp.training.gradient_descent_trainer import GradientDescentTrainer


@TrainerCallback.register("wandb", exist_ok=True)
class WandBCallback(AllenNLPWandBCallback):
    """
    Logs training to Weights & Biases. The parameters are those of AllenNLP's `WandBCallback`.

    Replaces AllenNLP's class, which names a new run with `wandb.util.generate_id`
    (`training/callbacks/wandb.py`); wandb has moved that function.

    Registered as a `TrainerCallback` with name "wandb".
    """

    _run_id: Optional[str]

    def on_start(
        self, trainer: GradientDescentTrainer, is_primary: bool = True, **kwargs: Any
    ) -> None:
        if is_primary and self._run_id is None:
            from wandb.sdk.lib.runid import generate_id  # slow to import

            self._run_id = generate_id()
        self._wandb_kwargs.pop("anonymous", None)  # no effect, and wandb will soon refuse it
        super().on_start(trainer, is_primary=is_primary, **kwargs)
