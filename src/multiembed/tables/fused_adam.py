"""Torch's fused Adam, for parameters that every step touches."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim.adam import adam

from multiembed.tables.schedule import BETA1, BETA2, EPSILON


class Adam:
    """Adam with coupled L2, as `torch.optim.Adam` computes it.

    That class itself loads torch's compiler, which nothing here needs: 70 MiB, and the better part
    of a second of every training.

    Args:
        parameters: By name, on the device they will be trained on.
        learning_rate: Used by the next step; may change between steps.
        weight_decay: L2, within the gradient.
    """

    def __init__(
        self, parameters: Mapping[str, Tensor], *, learning_rate: float, weight_decay: float
    ) -> None:
        self._weight_decay = weight_decay
        self._parameters = dict(parameters)
        self._learning_rate = learning_rate
        on_gpu = next((p.device for p in parameters.values() if p.is_cuda), None)
        # Where the device reads it, a CUDA graph that holds a step sees it change.
        self._rate = None if on_gpu is None else torch.tensor(learning_rate, device=on_gpu)
        self._state = {
            "step": {name: torch.zeros((), device=p.device) for name, p in parameters.items()},
            "exp_avg": {name: torch.zeros_like(p) for name, p in parameters.items()},
            "exp_avg_sq": {name: torch.zeros_like(p) for name, p in parameters.items()},
        }

    @property
    def learning_rate(self) -> float:
        """Used by the next step."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        if self._rate is not None and value != self._learning_rate:
            self._rate.fill_(value)
        self._learning_rate = value

    def gradients(self) -> list[Tensor]:
        """Gradients since the last step, for clipping in place."""
        return [p.grad for p in self._parameters.values() if p.grad is not None]

    @torch.no_grad()
    def step(self) -> None:
        """Apply the gradients, and forget them. Parameters without one stay as they are."""
        names = [name for name, p in self._parameters.items() if p.grad is not None]
        steps, first, second = ([of[name] for name in names] for of in self._state.values())
        adam(
            [self._parameters[name] for name in names],
            self.gradients(),
            first,
            second,
            [],
            steps,
            fused=True,
            amsgrad=False,
            beta1=BETA1,
            beta2=BETA2,
            lr=self._learning_rate if self._rate is None else self._rate,
            weight_decay=self._weight_decay,
            eps=EPSILON,
            maximize=False,
        )
        for name in names:
            self._parameters[name].grad = None

    def state(self) -> dict[str, Tensor]:
        """Everything needed to go on later, beside the parameters, by `quantity.name`."""
        return {
            f"{quantity}.{name}": tensor
            for quantity, tensors in self._state.items()
            for name, tensor in tensors.items()
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned."""
        own = self.state()
        for name, tensor in state.items():
            own[name].copy_(tensor)
