"""Click models in plain PyTorch, as textbooks and the paper's reference code write them.

The baseline of bench_step.py and bench_evaluate.py; nothing of multiembed is in here. A model has
a list of M embeddings over all fields, found by offsets, and a list of M interactions; their mean
goes to a common head. The same hyperparameters and the same number of parameters as multiembed's.
"""

# ruff: noqa: D101, D102

import itertools

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

HIDDEN = 400
ATTENTION_HEADS, HEAD_DIM = 2, 32


class Rows(Dataset):
    """One record per row."""

    def __init__(self, ids, labels):
        self.ids, self.labels = ids, labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, row):
        return self.ids[row], self.labels[row]


def loader(ids, labels, batch, *, shuffle):
    """Batches of (ids, labels)."""
    return DataLoader(Rows(ids, labels), batch_size=batch, shuffle=shuffle)


class FieldsEmbedding(nn.Module):
    """All fields in one table, with offsets."""

    def __init__(self, cardinalities, dim):
        super().__init__()
        self.table = nn.Embedding(sum(cardinalities), dim)
        nn.init.xavier_uniform_(self.table.weight)
        offsets = [0, *itertools.accumulate(cardinalities)][:-1]
        self.register_buffer("offsets", torch.tensor(offsets))

    def forward(self, ids):
        return self.table(ids + self.offsets)


class FieldAwareEmbedding(nn.Module):
    """For every field a table over all fields, and first-order weights."""

    def __init__(self, cardinalities, dim):
        super().__init__()
        self.tables = nn.ModuleList(FieldsEmbedding(cardinalities, dim) for _ in cardinalities)
        self.linear = FieldsEmbedding(cardinalities, 1)

    def forward(self, ids):
        return [table(ids) for table in self.tables], self.linear(ids)


def block(inputs, outputs, dropout):
    """A hidden layer."""
    return nn.Sequential(
        nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU(), nn.Dropout(dropout)
    )


class Dnn(nn.Module):
    def __init__(self, fields, dim, dropout):
        super().__init__()
        self.mlp = block(fields * dim, HIDDEN, dropout)

    def forward(self, x):
        return self.mlp(x.flatten(1))


class Ipnn(nn.Module):
    def __init__(self, fields, dim, dropout):
        super().__init__()
        pairs = list(itertools.combinations(range(fields), 2))
        self.rows, self.columns = (list(side) for side in zip(*pairs, strict=True))
        self.mlp = block(fields * dim + len(pairs), HIDDEN, dropout)

    def forward(self, x):
        products = (x[:, self.rows] * x[:, self.columns]).sum(dim=2)
        return self.mlp(torch.cat([x.flatten(1), products], dim=1))


class Nfwfm(nn.Module):
    """By einsum: the reference writes out all pairs, 0.6 GB for each set (bench_nfwfm.py)."""

    def __init__(self, fields, dim, dropout):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(fields, fields))
        self.norm = nn.BatchNorm1d(dim)
        self.dropout = nn.Dropout(dropout)
        self.mlp = block(dim, HIDDEN, dropout)

    def forward(self, x):
        pooled = torch.einsum("bid,ij,bjd->bd", x, self.weight, x)
        return self.mlp(self.dropout(self.norm(pooled)))


class XDeepFm(nn.Module):
    def __init__(self, fields, dim, dropout, maps=(16, 16)):
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv1d(fields * before, after, 1)
            for before, after in itertools.pairwise([fields, *maps])
        )
        self.mlp = block(fields * dim, HIDDEN, dropout)

    def forward(self, x):
        hidden, sums = x, []
        for convolution in self.convolutions:
            pairs = (x.unsqueeze(2) * hidden.unsqueeze(1)).flatten(1, 2)
            hidden = torch.relu(convolution(pairs))
            sums.append(hidden.sum(dim=2))
        return torch.cat([*sums, self.mlp(x.flatten(1))], dim=1)


class DcnV2(nn.Module):
    def __init__(self, fields, dim, dropout, layers=4):
        super().__init__()
        width = fields * dim
        self.cross = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.mlp = block(width, HIDDEN, dropout)

    def forward(self, x):
        x0 = x = x.flatten(1)
        for layer in self.cross:
            x = x0 * layer(x) + x
        return self.mlp(x)


class FinalMlp(nn.Module):
    def __init__(self, fields, dim, dropout):
        super().__init__()
        self.streams = nn.ModuleList(
            nn.Sequential(block(fields * dim, HIDDEN, dropout), block(HIDDEN, HIDDEN, dropout))
            for _ in range(2)
        )

    def forward(self, x):
        return torch.cat([stream(x.flatten(1)) for stream in self.streams], dim=1)


class AutoInt(nn.Module):
    def __init__(self, fields, dim, dropout, layers=3):
        super().__init__()
        width = ATTENTION_HEADS * HEAD_DIM
        self.layers = nn.ModuleList(
            nn.ModuleList(nn.Linear(before, width, bias=False) for _ in range(4))
            for before in [dim, *[width] * (layers - 1)]
        )

    def forward(self, x):
        for query, key, value, residual in self.layers:
            # (batch, heads, fields, size)
            q, k, v = (
                part(x).unflatten(2, (ATTENTION_HEADS, -1)).transpose(1, 2)
                for part in (query, key, value)
            )
            attended = torch.softmax(q @ k.transpose(2, 3), dim=-1) @ v
            x = torch.relu(attended.transpose(1, 2).flatten(2) + residual(x))
        return x.flatten(1)


class Ffm(nn.Module):
    def __init__(self, fields, dim, dropout):
        super().__init__()
        self.pairs = list(itertools.combinations(range(fields), 2))

    def forward(self, x):
        by_table, linear = x
        products = [by_table[j][:, i] * by_table[i][:, j] for i, j in self.pairs]
        return torch.stack(products, dim=1).sum(dim=(1, 2)).unsqueeze(1) + linear.sum(dim=1)


class TwoBranches(nn.Module):
    """Adds a linear layer on the first numbers and an MLP on the rest."""

    def __init__(self, first, dropout):
        super().__init__()
        self.first = first
        self.linear = nn.Linear(first, 1)
        self.mlp = nn.Sequential(block(HIDDEN, HIDDEN, dropout), nn.Linear(HIDDEN, 1))

    def forward(self, x):
        return self.linear(x[:, : self.first]) + self.mlp(x[:, self.first :])


class Bilinear(nn.Module):
    """`w_x . x + w_y . y + x' W y + b`."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(HIDDEN, HIDDEN))
        self.x, self.y = nn.Linear(HIDDEN, 1), nn.Linear(HIDDEN, 1)

    def forward(self, views):
        x, y = views.chunk(2, dim=1)
        return self.x(x) + self.y(y) + ((x @ self.weight) * y).sum(dim=1, keepdim=True)


class Bias(nn.Module):
    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x + self.bias


INTERACTIONS = {
    "dnn": Dnn,
    "ipnn": Ipnn,
    "nfwfm": Nfwfm,
    "xdeepfm": XDeepFm,
    "dcnv2": DcnV2,
    "finalmlp": FinalMlp,
    "autoint": AutoInt,
    "ffm": Ffm,
}


def head(architecture, fields, dropout):
    """What follows the mean over the sets."""
    if architecture == "xdeepfm":
        return TwoBranches(32, dropout)
    if architecture == "finalmlp":
        return Bilinear()
    if architecture == "autoint":
        return nn.Linear(fields * ATTENTION_HEADS * HEAD_DIM, 1)
    if architecture == "ffm":
        return Bias()
    return nn.Sequential(block(HIDDEN, HIDDEN, dropout), nn.Linear(HIDDEN, 1))


class TextbookModel(nn.Module):
    """Ids to logits, by a list of embeddings and a list of interactions."""

    def __init__(self, architecture, cardinalities, *, dim, sets, dropout=0.2):
        super().__init__()
        embedding = FieldAwareEmbedding if architecture == "ffm" else FieldsEmbedding
        interaction = INTERACTIONS[architecture]
        fields = len(cardinalities)
        self.embeddings = nn.ModuleList(embedding(cardinalities, dim) for _ in range(sets))
        self.interactions = nn.ModuleList(interaction(fields, dim, dropout) for _ in range(sets))
        self.head = head(architecture, fields, dropout)

    def forward(self, ids):
        pairs = zip(self.embeddings, self.interactions, strict=True)
        views = [interaction(embedding(ids)) for embedding, interaction in pairs]
        return self.head(torch.stack(views).mean(dim=0)).squeeze(1)
