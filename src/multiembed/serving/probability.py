"""What a bundle's model file holds: ids to calibrated probabilities."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from multiembed.models.click_model import ClickModel
from multiembed.runs.calibration import SMALLEST, Calibration


class PlattLine(nn.Module):
    """A line on the logit."""

    def __init__(self, calibration: Calibration) -> None:
        super().__init__()
        self.slope, self.intercept = calibration.slope, calibration.intercept

    def forward(self, logits: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Return the probability of every row."""
        largest = math.log1p(-SMALLEST) - math.log(SMALLEST)
        return torch.sigmoid(self.slope * logits.clamp(-largest, largest) + self.intercept)


class RisingLines(nn.Module):
    """Straight lines through points, level beyond the first and the last."""

    before: Tensor
    after: Tensor
    slopes: Tensor

    def __init__(self, calibration: Calibration) -> None:
        super().__init__()
        before, after = torch.tensor(calibration.points, dtype=torch.float64).T
        runs = before.diff()
        slopes = torch.where(runs > 0, after.diff() / runs, 0)
        self.register_buffer("before", before.float())
        self.register_buffer("after", after.float())
        # A slope per line: level before the first point, and beyond the last.
        self.register_buffer("slopes", nn.functional.pad(slopes, (1, 1)).float())

    def forward(self, logits: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Return the probability of every row."""
        p = torch.sigmoid(logits)
        passed = (p[:, None] >= self.before).sum(dim=1)
        start = (passed - 1).clamp(min=0)
        return self.after[start] + (p - self.before[start]) * self.slopes[passed]


class ProbabilityModel(nn.Module):
    """Ids to probabilities, as a run gives them."""

    def __init__(
        self, model: ClickModel, *, negative_rate: float, calibration: Calibration | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.shift = math.log(negative_rate)
        if calibration is None:
            self.last = nn.Sigmoid()
        else:
            kinds = {"platt": PlattLine, "isotonic": RisingLines}
            self.last = kinds[calibration.method](calibration)

    def forward(self, ids: Int[Tensor, "batch fields"]) -> Float[Tensor, " batch"]:
        """Return the probability of every row."""
        return self.last(self.model(ids) + self.shift)
