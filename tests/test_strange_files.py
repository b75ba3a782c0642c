"""Strange files: each has the outcome that a practitioner would want, and none runs anything."""

import gzip
import io
import os
import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from safetensors.torch import save_file

from multiembed import diagnose
from multiembed.base.errors import DataError

RANDOM = np.random.default_rng(0)


def array(rows, columns):
    return RANDOM.normal(size=(rows, columns)).astype(np.float32)


def tensor(rows, columns):
    return torch.from_numpy(array(rows, columns))


def torch_file(content):
    return lambda path: torch.save(content, path)


def tensors(**named):
    return lambda path: save_file(named, path)


def bytes_of(save, *content, **named):
    whole = io.BytesIO()
    save(whole, *content, **named)
    return whole.getvalue()


def archive(**named):
    return lambda path: path.write_bytes(bytes_of(np.savez, **named))


def numpy_file(content):
    return lambda path: path.write_bytes(bytes_of(np.save, content))


class Runs:
    """Makes a folder when unpickled by anything that obeys it."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def cut_short(path):
    torch.save({"emb.weight": tensor(900, 4)}, path)
    path.write_bytes(path.read_bytes()[:3000])


def compressed(path):
    path.write_bytes(gzip.compress(bytes_of(np.savez, user=array(50, 4))))


def moments(rows):
    return {"state": {0: {"exp_avg": tensor(rows, 4), "exp_avg_sq": tensor(rows, 4)}}}


TIED = tensor(90, 4)
BROKEN = array(50, 4)
BROKEN[3, 1] = np.nan
TOKENS = {"bert.embeddings.word_embeddings.weight": tensor(99, 4), "item_id.weight": tensor(9, 4)}
LIGHTNING = {"state_dict": {"model.user_embedding.weight": tensor(50, 4)}, "epoch": 1}
DOUBLE = {"user_tower.embedding.weight": tensor(50, 4), "item_tower.embedding.weight": TIED}
ADAPTER = {"q_proj.lora_A.weight": tensor(4, 60), "q_proj.lora_B.weight": tensor(60, 4)}

READ = {
    "a bare list": (torch_file([tensor(90, 4), tensor(50, 4)]), ["0", "1"]),
    "a pickled tuple": (
        lambda path: path.write_bytes(pickle.dumps((array(90, 4), array(50, 4)))),
        ["0", "1"],
    ),
    "tied weights": (torch_file({"lm_head.weight": TIED, "tok_emb.weight": TIED}), ["tok_emb"]),
    "a text encoder beside ids": (torch_file(TOKENS), ["word_embeddings", "item_id"]),
    "an adapter beside its table": (
        tensors(**ADAPTER, **{"embed_tokens.weight": tensor(90, 8)}),
        ["embed_tokens"],
    ),
    "a recurrence": (
        archive(Wx=array(16, 48), Wh=array(16, 48), embedding=array(90, 4)),
        ["embedding"],
    ),
    "Keras's names": (
        archive(
            **{
                "user/embeddings:0": array(50, 4),
                "gru/kernel": array(90, 12),
                "gru/recurrent_kernel": array(4, 12),
            }
        ),
        ["user"],
    ),
    "positions": (
        torch_file({"pe": tensor(512, 4), "pos_encoding.weight": tensor(90, 4), "emb": TIED}),
        ["emb"],
    ),
    "convolutions and norms": (
        torch_file(
            {"conv.weight": torch.ones(16, 1, 3), "bn.running_var": torch.ones(9), "emb": TIED}
        ),
        ["emb"],
    ),
    "byte orders and columns first": (
        archive(
            user=array(50, 4).astype(">f4"), item=np.asfortranarray(array(30, 4).astype(">f8"))
        ),
        ["user", "item"],
    ),
    "float8": (tensors(item_emb=tensor(50, 4).to(torch.float8_e5m2)), ["item_emb"]),
    "bfloat16": (torch_file({"item_emb": tensor(50, 4).bfloat16()}), ["item_emb"]),
    "an empty table": (torch_file({"a_emb": tensor(50, 4)[:0], "b_emb": tensor(50, 4)}), ["b_emb"]),
    "one row, one column": (
        torch_file({"a_emb": tensor(1, 4), "b_emb": tensor(50, 1), "c_emb": tensor(50, 4)}),
        ["a_emb", "c_emb"],
    ),
    "one column alone": (numpy_file(array(50, 1)), ["strange"]),
    "NaN in one of several": (archive(a_emb=BROKEN, b_emb=array(50, 4)), ["b_emb"]),
    "a dictionary in an array": (numpy_file({"user": array(50, 4), "n": 3}), ["user"]),
    "arrays in an array": (
        numpy_file(np.array([array(50, 4), array(30, 4)], dtype=object)),
        ["0", "1"],
    ),
    "whole numbers": (numpy_file(RANDOM.integers(0, 9, (50, 4))), ["strange"]),
    "an archive inside gzip": (compressed, ["user"]),
    "Lightning": (torch_file(LIGHTNING | {"optimizer_states": [moments(50)]}), ["user_embedding"]),
    "towers": (torch_file(DOUBLE), ["user_tower.embedding", "item_tower.embedding"]),
    "compiled and parallel": (
        torch_file({"_orig_mod.module.user_emb.weight": tensor(50, 4)}),
        ["user_emb"],
    ),
    "an average beside the model": (
        torch_file({"model": {"emb.weight": TIED}, "ema": {"emb.weight": TIED + 1}}),
        ["emb"],
    ),
}


@pytest.mark.parametrize("strange", READ)
def test_strange_files_give_their_tables(tmp_path, strange):
    write, names = READ[strange]
    write(tmp_path / "strange.file")

    found = diagnose(tmp_path / "strange.file")

    assert [field.name for field in found.fields] == names
    assert found.unknown_role == []


REFUSED = {
    "an adapter alone": (tensors(**ADAPTER), "a low-rank adapter"),
    "an optimizer alone": (torch_file(moments(50)), "what an optimizer remembers"),
    "an optimizer in a file of its own": (
        torch_file({"optimizer": moments(50), "epoch": 3}),
        "what an optimizer remembers",
    ),
    "one vector": (numpy_file(array(50, 1)[:, 0]), "strange: not a matrix"),
    "three axes": (numpy_file(np.ones((2, 50, 4))), "strange: not a matrix"),
    "nothing but empty tables": (torch_file({"emb": tensor(50, 4)[:0]}), "emb: empty"),
    "words": (numpy_file(np.array(["a", None], dtype=object)), "an array of Python objects"),
    "records": (numpy_file(np.zeros(5, dtype=[("a", "f4"), ("b", "f4")])), "must hold numbers"),
    "a sparse matrix": (
        lambda path: path.write_bytes(
            bytes_of(scipy.sparse.save_npz, scipy.sparse.eye(9, format="csr"))
        ),
        "a sparse matrix of SciPy: write it by",
    ),
    "a pickled frame": (
        lambda path: pd.DataFrame(array(9, 4)).to_pickle(path),
        "a frame of pandas",
    ),
    "numbers without a header": (lambda path: path.write_bytes(bytes(400)), "of no known kind"),
    "half a file": (cut_short, "an archive that is cut short"),
}


@pytest.mark.parametrize("strange", REFUSED)
def test_what_has_no_table_is_refused_for_its_reason(tmp_path, strange):
    write, said = REFUSED[strange]
    write(tmp_path / "strange.file")

    with pytest.raises(DataError, match=rf"^(?!.*\n).*{said}"):
        diagnose(tmp_path / "strange.file")


def test_an_array_of_objects_runs_nothing(tmp_path):
    content = {"user": array(50, 4), "evil": Runs(str(tmp_path / "it_ran"))}
    numpy_file(np.array([content], dtype=object))(tmp_path / "strange.npy")

    found = diagnose(tmp_path / "strange.npy")

    assert [field.name for field in found.fields] == ["0.user"]
    assert not (tmp_path / "it_ran").exists()
