"""Rows that were copied to a device come in the batches they would come in from disk."""

import numpy as np
import pytest
import torch

from multiembed.data.store.dataset import Split, open_dataset
from multiembed.testing.planted_clicks import PlantedClicks, write_planted
from multiembed.training import step as residence
from multiembed.training.step import ResidentRows, resident

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    path = tmp_path_factory.mktemp("planted") / "dataset"
    write_planted(path, PlantedClicks(cardinalities=(50, 20, 8), ranks=3, rows=1000, strength=2.0))
    return open_dataset(path).split("train")


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("start", [0, 2])
@pytest.mark.parametrize("whole", [False, True])
def test_batches_are_those_of_the_split(split, monkeypatch, seed, start, whole):
    if whole:  # with all columns that rows may have
        random = np.random.default_rng(0)
        rows = split.take(np.arange(split.rows))
        numbers = random.normal(size=(split.rows, 2)).astype(np.float32)
        weights = random.random(split.rows).astype(np.float32)
        split = Split([rows._replace(weights=weights, numbers=numbers)])
    monkeypatch.setattr(residence, "ROWS_PER_COPY", 77)
    options = {"seed": seed, "epoch": 1, "start": start}

    found = list(ResidentRows(split, DEVICE).batches(128, **options))
    expected = list(split.batches(128, **options))

    assert len(found) == len(expected) > 3
    for ours, theirs in zip(found, expected, strict=True):
        assert [part is None for part in ours] == [False, False, not whole, not whole]
        there = ((part, true) for part, true in zip(ours, theirs, strict=True) if true is not None)
        for part, true in there:
            np.testing.assert_array_equal(part.cpu().numpy(), true)
            assert part.device.type == DEVICE.type


class Uncopied(ResidentRows):
    def __init__(self, split, device):
        pass


def test_rows_stay_on_disk_where_there_is_no_gpu_or_no_room(split, monkeypatch):
    assert resident(split, torch.device("cpu")) is split
    monkeypatch.setattr(residence, "ResidentRows", Uncopied)
    row = 3 * 4 + 1 + 8
    for free, there in ((4 * row * split.rows, True), (4 * row * split.rows - 1, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, free=free: (free, free))
        assert isinstance(resident(split, torch.device("cuda")), Uncopied) == there
