"""Writes distributed checkpoints beside this file, by two processes each; see README.md.

Run: python tests/checkpoints/write_distributed.py [torchrec], with torch alone, or TorchRec, too.
What was sharded stands whole in NAME.safetensors beside the directory NAME.
"""

import os
import shutil
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from safetensors.torch import save_file
from torch import nn
from torch.distributed._shard.sharded_tensor import ShardedTensor
from torch.distributed.checkpoint.state_dict import get_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

HERE = Path(__file__).parent
PROCESSES = 2


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def saved(name, state, whole):
    """Save what is sharded, by all processes together, and what it stands for, by the first."""
    if dist.get_rank() == 0:
        shutil.rmtree(HERE / name, ignore_errors=True)
        save_file(
            {key: value.contiguous() for key, value in whole.items()}, HERE / f"{name}.safetensors"
        )
    dist.barrier()
    dcp.save(state, checkpoint_id=HERE / name)


def write_dtensor():
    """Write tables cut by rows, by columns, by both, and by none; 7 rows do not halve."""
    line = init_device_mesh("cpu", (PROCESSES,))
    square = init_device_mesh("cpu", (1, PROCESSES))
    whole = {
        "by_rows_emb": random(7, 4),
        "by_columns_emb": random(6, 5, seed=1, dtype=torch.bfloat16),
        "by_both_emb": random(5, 4, seed=2),
        "by_none_emb": random(3, 4, seed=3),
        "on_one_emb": random(1, 4, seed=4),
    }
    cut = {
        "by_rows_emb": (line, [Shard(0)]),
        "by_columns_emb": (line, [Shard(1)]),
        "by_both_emb": (square, [Shard(1), Shard(0)]),
        "by_none_emb": (line, [Replicate()]),
        "on_one_emb": (line, [Shard(0)]),
    }
    state = {name: distribute_tensor(of, *cut[name]) for name, of in whole.items()}
    saved("dtensor", state, whole)
    if dist.get_rank() == 0:
        torch.save(state, HERE / "dtensor_rank0.pt")


class TwoTables(nn.Module):
    """Two tables and a head."""

    def __init__(self):
        super().__init__()
        self.user_emb = nn.Embedding(11, 4)
        self.item_emb = nn.Embedding(6, 4)
        self.fc = nn.Linear(8, 1, bias=False)

    def forward(self, users, items):
        return self.fc(torch.cat([self.user_emb(users), self.item_emb(items)], dim=1)).sum()


def write_fsdp2():
    """Write a model of FSDP2 and its Adam after one step of four users and all items."""
    torch.manual_seed(0)
    model = TwoTables()
    fully_shard(model, mesh=init_device_mesh("cpu", (PROCESSES,)))
    rule = torch.optim.Adam(model.parameters(), lr=0.1)
    model(torch.tensor([0, 1, 2, 5, 5, 0]), torch.arange(6)).backward()
    rule.step()
    weights, moments = get_state_dict(model, rule)
    whole = {name: of.full_tensor() for name, of in weights.items()}
    saved("fsdp2", {"model": weights, "optimizer": moments}, whole)


def write_torchrec():
    """Write collections of TorchRec whose tables are cut in every way that it has for two."""
    from torchrec import EmbeddingBagCollection, EmbeddingBagConfig
    from torchrec.distributed import DistributedModelParallel
    from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
    from torchrec.distributed.sharding_plan import (
        column_wise,
        construct_module_sharding_plan,
        data_parallel,
        row_wise,
        table_wise,
    )
    from torchrec.distributed.types import ShardingPlan

    ways = {
        "by_rows": row_wise(),
        "by_columns": column_wise(ranks=[0, 1]),
        "first": table_wise(rank=0),
        "second": table_wise(rank=1),
        "everywhere": data_parallel(),
    }
    tables = [
        EmbeddingBagConfig(
            name=f"t_{way}", embedding_dim=8, num_embeddings=7 + at, feature_names=[way]
        )
        for at, way in enumerate(ways)
    ]
    model = nn.ModuleDict({"ebc": EmbeddingBagCollection(tables=tables)})
    sharder = EmbeddingBagCollectionSharder()
    plan = construct_module_sharding_plan(
        model["ebc"],
        {f"t_{way}": of for way, of in ways.items()},
        sharder,
        local_size=PROCESSES,
        world_size=PROCESSES,
        device_type="cpu",
    )
    sharded = DistributedModelParallel(
        model,
        device=torch.device("cpu"),
        plan=ShardingPlan({"ebc": plan}),
        sharders=[sharder],
    )
    state = sharded.state_dict()
    whole = {}
    for name, of in state.items():
        whole[name] = torch.empty(of.shape)
        if isinstance(of, ShardedTensor):
            of.gather(out=whole[name] if dist.get_rank() == 0 else None)
        else:
            whole[name].copy_(of)
    saved("torchrec_sharded", {"model": state}, whole)


def one_process(rank, writers):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29511")
    dist.init_process_group("gloo", rank=rank, world_size=PROCESSES)
    for write in writers:
        write()
    dist.destroy_process_group()


if __name__ == "__main__":
    wanted = [write_torchrec] if "torchrec" in sys.argv else [write_dtensor, write_fsdp2]
    mp.spawn(one_process, (wanted,), nprocs=PROCESSES)
