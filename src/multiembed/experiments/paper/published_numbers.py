"""The numbers printed in the paper, beside which ours are set."""

import tomllib
from functools import lru_cache
from importlib.resources import files
from typing import Any


@lru_cache(maxsize=1)
def published() -> dict[str, Any]:
    """Return all of them, by table and figure."""
    text = files("multiembed.experiments.paper").joinpath("published.toml").read_text("utf-8")
    return tomllib.loads(text)


def nearest_dataset(fields: int) -> str:
    """Return which of the paper's datasets a number of fields is most like."""
    of_datasets = published()["table4"]
    return min(of_datasets, key=lambda name: abs(of_datasets[name]["fields"] - fields))


def published_auc(
    dataset: str, architecture: str, size: int | None, scaling: str
) -> tuple[float, float] | None:
    """Return mean and deviation of the test AUC in Table 1, if it is there."""
    row = published()["table1"][dataset].get(architecture)
    if row is None:
        return None
    sizes = row["size"] if scaling == "single" else row["multi_size"]
    if size not in sizes:
        return None
    at = sizes.index(size)
    return row[scaling][at], row[f"{scaling}_std"][at]
