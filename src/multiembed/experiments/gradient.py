"""Where a table's gradient comes from, field by field (section 4.1 of the paper, evidence II).

In a factorization machine `h = sum_{i<j} e_i . e_j` the gradient of a row of one field's table is
the sum over the other fields i of `theta_i = sum_k alpha_{i,k} sigma_{i,k} v_{i,k}`: directions of
E_i, weighted by its singular values. Where E_i has few, so has what it adds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64


@dataclass(frozen=True, eq=False)
class FieldPart:
    """What one other field adds to the gradient of every row."""

    alpha: Float64[np.ndarray, "rows values"]
    """Does not know sigma but through the predictions."""
    sigma: Float64[np.ndarray, " values"]
    """Singular values of the other field's table."""
    v: Float64[np.ndarray, "values dim"]
    """Its right singular vectors."""

    @property
    def theta(self) -> Float64[np.ndarray, "rows dim"]:
        """The sum over singular values."""
        return self.alpha * self.sigma @ self.v


def gradient_parts(
    tables: Sequence[Float64[np.ndarray, "_ dim"]],
    ids: Int64[np.ndarray, "batch fields"],
    labels: Float64[np.ndarray, " batch"],
    *,
    field: int = 0,
) -> dict[int, FieldPart]:
    """Split the gradient of the mean logistic loss in one field's table by the other fields.

    Args:
        tables: One per field.
        ids: The batch.
        labels: 0 or 1.
        field: Whose table the gradient is of.

    Returns:
        By number of the other field, its part; their `theta` sum to the gradient.
    """
    slopes = _loss_slopes(tables, ids, labels) / len(labels)
    parts = {}
    for other, table in enumerate(tables):
        if other == field:
            continue
        u, sigma, v = np.linalg.svd(table, full_matrices=False)
        # The paper sums over the whole batch; only the samples that hold the row belong to it.
        alpha = np.zeros((len(tables[field]), len(sigma)))
        np.add.at(alpha, ids[:, field], slopes[:, None] * u[ids[:, other]])
        parts[other] = FieldPart(alpha, sigma, v)
    return parts


def _loss_slopes(
    tables: Sequence[Float64[np.ndarray, "_ dim"]],
    ids: Int64[np.ndarray, "batch fields"],
    labels: Float64[np.ndarray, " batch"],
) -> Float64[np.ndarray, " batch"]:
    """Return the derivative of each sample's loss in its logit."""
    rows = np.stack([table[column] for table, column in zip(tables, ids.T, strict=True)])
    total = rows.sum(axis=0)
    logits = 0.5 * (np.sum(total**2, axis=1) - np.sum(rows**2, axis=(0, 2)))
    return 0.5 + 0.5 * np.tanh(logits / 2) - labels
