"""Writes the TorchRec checkpoints beside this file, with TorchRec itself; see README.md."""

import shutil
from pathlib import Path

import torch
import torch.distributed.checkpoint as checkpoint
from torchrec.models.dlrm import DLRM_DCN
from torchrec.modules.embedding_configs import EmbeddingBagConfig
from torchrec.modules.embedding_modules import EmbeddingBagCollection

HERE = Path(__file__).parent
SIZES = {"site": 11, "hour": 6, "ad": 23}


def model():
    tables = [
        EmbeddingBagConfig(
            name=f"t_{name}", embedding_dim=4, num_embeddings=rows, feature_names=[name]
        )
        for name, rows in SIZES.items()
    ]
    return DLRM_DCN(
        EmbeddingBagCollection(tables=tables),
        dense_in_features=2,
        dense_arch_layer_sizes=[4],
        over_arch_layer_sizes=[4, 1],
        dcn_num_layers=1,
        dcn_low_rank_dim=2,
    )


if __name__ == "__main__":
    torch.manual_seed(0)
    dlrm = model()
    torch.save(dlrm.state_dict(), HERE / "torchrec.pt")
    folder = HERE / "torchrec_distributed"
    shutil.rmtree(folder, ignore_errors=True)
    checkpoint.save(dlrm.state_dict(), checkpoint_id=folder)
