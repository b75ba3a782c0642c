"""The order of a FuxiCTR model's fields, which the file beside its checkpoint gives."""

from pathlib import Path

from multiembed.base.errors import DataError
from multiembed.base.json_files import read_json_file
from multiembed.diagnosis.readers.table import Tensors


def in_order(tensors: Tensors, feature_map: Path) -> Tensors:
    """Put the tables of a FuxiCTR model in the order its feature map gives, which models follow.

    Raises:
        DataError: If the map is none, or of another model.
    """
    try:
        listed = read_json_file(feature_map)["features"]
        features = {name: {**spec} for entry in listed for name, spec in entry.items()}
    except (KeyError, AttributeError, TypeError) as error:
        raise DataError(f"{feature_map}: must list features by name") from error
    order = {name: place for place, name in enumerate(features)}

    def place(name: str) -> int:
        return order.get(name.removesuffix(".weight").rpartition(".")[2], len(order))

    ordered = dict(sorted(tensors.items(), key=lambda item: place(item[0])))
    for name, tensor in ordered.items():
        field = name.removesuffix(".weight").rpartition(".")[2]
        expected = features.get(field, {}).get("vocab_size")
        if "embedding_layers" in name and expected not in (None, tensor.shape[0]):
            raise DataError(
                f"{feature_map}: size of '{field}' must be its table's {tensor.shape[0]} rows, "
                f"got {expected}"
            )
    return ordered
