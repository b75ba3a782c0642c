"""Writes files of libraries of every kind beside this file, with those libraries; see README.md.

Run: KERAS_BACKEND=torch python tests/checkpoints/write_elsewhere.py. The tables that the libraries
hold themselves stand in elsewhere.npz, as FILE:TABLE.
"""

import pickle
import shutil
from pathlib import Path

import faiss
import fasttext
import gguf
import keras
import numpy as np
import pandas as pd
import scipy.sparse
import surprise
import tensorflow as tf
import torch
from gensim.models import Word2Vec
from implicit.als import AlternatingLeastSquares
from lightfm import LightFM
from torch import nn

FOLDER = Path(__file__).parent / "elsewhere"
RANDOM = np.random.default_rng(0)
CLICKS = scipy.sparse.random(12, 9, 0.4, format="csr", random_state=0)
SENTENCES = [[f"word{RANDOM.integers(12)}" for _ in range(9)] for _ in range(40)]
TABLES: dict[str, np.ndarray] = {}


def holds(file, tables):
    """Note what the library itself says that a file holds; return where to write the file."""
    TABLES.update({f"{file}:{name}": np.asarray(table) for name, table in tables.items()})
    return FOLDER / file


def write_recommenders():
    model = LightFM(no_components=4).fit(CLICKS)
    tables = {"item_embeddings": model.item_embeddings, "user_embeddings": model.user_embeddings}
    holds("lightfm.pkl", tables).write_bytes(pickle.dumps(model))
    model = AlternatingLeastSquares(factors=4, iterations=1)
    model.fit(CLICKS.astype(np.float32), show_progress=False)
    tables = {"user_factors": model.user_factors, "item_factors": model.item_factors}
    model.save(str(holds("implicit.npz", tables)))
    rows, columns = CLICKS.nonzero()
    rated = pd.DataFrame({"user": rows, "item": columns, "rating": 1 + rows % 5})
    ratings = surprise.Dataset.load_from_df(rated, surprise.Reader()).build_full_trainset()
    model = surprise.SVDpp(n_factors=4, n_epochs=1).fit(ratings)
    tables = {"pu": model.pu, "qi": model.qi, "yj": model.yj}
    surprise.dump.dump(str(holds("surprise.dump", tables)), algo=model)


def write_vectors():
    model = Word2Vec(SENTENCES, vector_size=4, min_count=1, epochs=1)
    model.wv.save(str(holds("gensim.kv", {"vectors": model.wv.vectors})))
    text = FOLDER / "text"
    text.write_text("\n".join(" ".join(words) for words in SENTENCES))
    model = fasttext.train_unsupervised(str(text), dim=4, epoch=1, minCount=1, bucket=20, verbose=0)
    text.unlink()
    rows, words = np.array(model.f.getInputMatrix()), len(model.get_words())
    model.save_model(str(holds("fasttext.bin", {"words": rows[:words], "ngrams": rows[words:]})))
    vectors = RANDOM.normal(size=(20, 4)).astype(np.float32)
    index = faiss.IndexIDMap(faiss.IndexFlatIP(4))
    index.add_with_ids(vectors, np.arange(20))
    faiss.write_index(index, str(holds("faiss.index", {"faiss": vectors})))


def write_keras():
    ids = [keras.Input((1,), dtype="int32") for _ in range(2)]
    users = keras.layers.Embedding(12, 4, name="user_table")
    items = keras.layers.Embedding(9, 4, name="item_table")
    both = keras.layers.Concatenate()([users(ids[0]), items(ids[1])])
    out = keras.layers.Dense(1)(keras.layers.GRU(3)(both))
    model = keras.Model(ids, out)
    tables = {"user_table": users.get_weights()[0], "item_table": items.get_weights()[0]}
    for file in ("keras.keras", "keras.h5"):
        model.save(holds(file, tables))


class Lookups(nn.Module):
    """Two tables and a head."""

    def __init__(self):
        super().__init__()
        self.user_emb = nn.Embedding(12, 4)
        self.bag_emb = nn.EmbeddingBag(9, 4)
        self.fc = nn.Linear(4, 1)

    def forward(self, ids):
        return self.fc(self.user_emb(ids) + self.bag_emb(ids.unsqueeze(1)))


def write_exported():
    model, ids = Lookups().eval(), torch.arange(4)
    tables = {name: getattr(model, name).weight.detach() for name in ("user_emb", "bag_emb")}
    torch.onnx.export(model, (ids,), holds("loops.onnx", tables), dynamo=False)
    names = {"constants.0": tables["user_emb"], "constants.1": tables["bag_emb"]}
    torch.jit.freeze(torch.jit.script(model)).save(str(holds("frozen.torchscript", names)))
    vectors = RANDOM.normal(size=(9, 32)).astype(np.float32)
    four = gguf.GGMLQuantizationType.Q4_0
    packed = gguf.quants.quantize(vectors, four)
    tables = {"token_embd": gguf.quants.dequantize(packed, four)}
    writer = gguf.GGUFWriter(str(holds("packed.gguf", tables)), "llama")
    writer.add_tensor("token_embd.weight", packed, raw_dtype=four)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_tensorflow():
    model = tf.Module()
    model.user_embedding = tf.Variable(RANDOM.normal(size=(12, 4)))
    model.item_embedding = tf.Variable(RANDOM.normal(size=(9, 4)))
    tables = {name: getattr(model, name) for name in ("user_embedding", "item_embedding")}
    tf.train.Checkpoint(root=model).write(str(holds("tensorflow", tables)))


if __name__ == "__main__":
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    for write in (
        *(write_recommenders, write_vectors, write_keras, write_exported, write_tensorflow),
    ):
        write()
    np.savez_compressed(FOLDER.with_suffix(".npz"), **TABLES)
