"""Writes the checkpoints beside this file, with the libraries themselves; see README.md.

Run in an environment that has them: python tests/checkpoints/write_checkpoints.py
"""

import warnings
from pathlib import Path

import torch
from deepctr_torch.inputs import SparseFeat
from deepctr_torch.models import DCN
from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers import CrossNetV2, FeatureEmbedding, LogisticRegression, MLP_Block
from fuxictr.pytorch.models import BaseModel
from torch_rechub.basic.features import SparseFeature
from torch_rechub.models.ranking import DCNv2

HERE = Path(__file__).parent
SIZES = {"site": 11, "hour": 6, "ad": 23}


class FuxiModel(BaseModel):
    """DCN V2 put together from FuxiCTR's layers: its wheel does not hold its own models."""

    def __init__(self, feature_map):
        super().__init__(
            feature_map,
            model_id="dcnv2",
            gpu=-1,
            verbose=0,
            model_root="/tmp/fuxictr/",
            metrics=["AUC"],
            task="binary_classification",
        )
        self.embedding_layer = FeatureEmbedding(feature_map, 4)
        self.crossnet = CrossNetV2(16, 2)
        self.mlp = MLP_Block(input_dim=16, output_dim=1, hidden_units=[8])
        self.lr_layer = LogisticRegression(feature_map)


def write_fuxictr():
    feature_map = FeatureMap("tiny", str(HERE / "fuxictr"))
    for name, size in {**SIZES, "age": 5}.items():
        feature_map.features[name] = {
            "source": "",
            "type": "categorical",
            "vocab_size": size,
            "padding_idx": 0,
            "oov_idx": size - 1,
        }
    feature_map.labels = ["click"]
    feature_map.save(str(HERE / "fuxictr" / "feature_map.json"))
    FuxiModel(feature_map).save_weights(str(HERE / "fuxictr" / "dcnv2.model"))


def write_deepctr_torch():
    columns = [SparseFeat(name, size, embedding_dim=4) for name, size in SIZES.items()]
    model = DCN(
        columns,
        columns,
        cross_num=2,
        cross_parameterization="matrix",
        dnn_hidden_units=(8,),
        init_std=0.1,
    )
    torch.save(model.state_dict(), HERE / "deepctr_torch.pt")
    torch.save(model, HERE / "deepctr_torch_whole_model.h5")


def write_torch_rechub():
    features = [SparseFeature(name, vocab_size=size, embed_dim=4) for name, size in SIZES.items()]
    model = DCNv2(features, 2, {"dims": [8]}, use_low_rank_mixture=False)
    torch.save(model.state_dict(), HERE / "torch_rechub.pth")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    write_fuxictr()
    write_deepctr_torch()
    write_torch_rechub()
