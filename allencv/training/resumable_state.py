import random
from typing import Any, Dict, Optional

import numpy
import torch
from allennlp.training.callbacks import TrainerCallback


class ResumableState(TrainerCallback):
    """
    What a checkpoint of AllenNLP's leaves out: the random generators, the gradient scaler, and the
    number of steps. It travels in the checkpoint as the state of a callback.

    # Parameters

    serialization_dir : `str`
    trainer : `ImageTrainer`
        Whose state this is.
    """

    def __init__(self, serialization_dir: str, trainer: Any) -> None:
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
            "steps": self.trainer._total_batches_completed,
            "batches_left_out": getattr(self.trainer.data_loader, "batches_left_out", 0),
        }

    def load_state_dict(self, state_dict: Dict[str, Any]) -> None:
        self._saved = state_dict

    @property
    def batches_left_out(self) -> int:
        """How many batches of the interrupted epoch the data loader had left out."""
        return self._saved.get("batches_left_out", 0) if self._saved else 0

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
        self.trainer._total_batches_completed = saved["steps"]
