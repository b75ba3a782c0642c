"""Vectors of values: read from every kind of file, matched, or refused by one line."""

import gzip
import tracemalloc

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.decomposition import PCA

import multiembed as me
from multiembed.data.sources.vector_files import vector_blocks
from multiembed.training.vector_matching import read_pretrained

ROWS = 60
ITEMS = ["ann", "bob", "cy d"]
GIVEN = np.array([[1.0, 2.0, 0.5], [4.0, -2.0, 0.25], [7.0, 3.0, -1.5]])
UNSEEN = [0.0, 9.0, 9.0]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A field of each kind; items have 0, 1, 2 and a missing value in turn."""
    folder = tmp_path_factory.mktemp("vectors")
    turn = [n % 4 for n in range(ROWS)]
    frame = pl.DataFrame(
        {
            "click": [n // 4 % 2 for n in range(ROWS)],
            "item": [[*ITEMS, None][n] for n in turn],
            "code": [[10, 20, 30, 40][n] for n in turn],
            "ratio": [[0.5, 1.25, 2.0, 3.0][n] for n in turn],
            "flag": [n % 2 == 0 for n in turn],
            "tags": [["ann|bob", "bob", "ann", "ann|bob|cy d"][n] for n in turn],
            "price": [float(n) for n in range(ROWS)],
            "hashed": [f"h{n}" for n in turn],
            "at": [f"2024-06-01 0{n}:00:00" for n in turn],
        }
    )
    frame.write_parquet(folder / "rows.parquet")
    options = me.PrepareOptions(
        format="table",
        label="click",
        min_count=1,
        vocabulary="all",
        categorical_columns=("code", "ratio"),
        numeric_columns=("price",),
        multivalued={"tags": "|"},
        hash_sizes={"hashed": 8},
        dates={"at": "iso"},
    )
    me.prepare(folder / "rows.parquet", folder / "encoded", options)
    return me.open_dataset(folder / "encoded")


def read(dataset, file, field="item", **settings):
    """What a field's values get of a file: their vectors, and what is remarked."""
    model = me.ModelConfig(
        architecture="dnn", dim=2, pretrained={field: {"file": str(file), **settings}}
    )
    config, found = read_pretrained(me.RunConfig(model=model).resolved(), dataset)
    (of,) = found.values()
    values = dataset.vocabulary(field)["value"].to_list()
    rows = {value: of.vectors[of.places[at]] for at, value in enumerate(values, start=1)}
    return rows, of, config.model.pretrained[field]


def scaled(vectors):
    """Mean 0 and a mean squared length of 1."""
    centred = np.asarray(vectors) - np.mean(vectors, axis=0)
    return centred / np.sqrt(np.mean(np.sum(centred**2, axis=1)))


def as_lists(path, values=(*ITEMS, "new"), kind=None):
    kind = kind or pa.list_(pa.float64())
    vectors = pa.array([*GIVEN.tolist(), UNSEEN][: len(values)], kind)
    pq.write_table(pa.table({"title": ["t"] * len(values), "value": values, "v": vectors}), path)


def as_columns(path):
    columns = dict(zip(("e0", "e1", "e2"), np.vstack([GIVEN, UNSEEN]).T, strict=True))
    pl.DataFrame({"item": [*ITEMS, "new"], **columns}).write_parquet(path)


def as_npz(path, order="C", save=np.savez):
    matrix = np.asarray(np.vstack([GIVEN, UNSEEN]).astype(np.float32), order=order)
    save(path, values=np.array([*ITEMS, "new"]), vectors=matrix)


def text(header=True, blank=" "):
    lines = [*zip(ITEMS, GIVEN.tolist(), strict=True), ("new", UNSEEN)]
    lines = [word + blank + blank.join(map(str, numbers)) for word, numbers in lines]
    return "\n".join([*(["4 3"] if header else []), *lines]) + "\n"


def as_glove(path):
    path.write_text(text(header=False).replace("cy d", "cy d", 1))


FILES = {
    "lists.parquet": as_lists,
    "fixed.parquet": lambda path: as_lists(path, kind=pa.list_(pa.float32(), 3)),
    "columns.parquet": as_columns,
    "plain.npz": as_npz,
    "packed.npz": lambda path: as_npz(path, save=np.savez_compressed),
    "turned.npz": lambda path: as_npz(path, order="F"),
    "words.txt": lambda path: path.write_text(text()),
    "glove.txt": as_glove,
    "tabs.vec": lambda path: path.write_text(text(blank="\t")),
    "words.txt.gz": lambda path: path.write_bytes(gzip.compress(text().encode())),
}


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_gives_the_same_vectors(dataset, tmp_path, name):
    FILES[name](tmp_path / name)

    rows, of, record = read(dataset, tmp_path / name)

    np.testing.assert_allclose([rows[item] for item in ITEMS], scaled(GIVEN), atol=1e-6)
    assert not rows[None].any()  # a missing value, and *other*, have none
    assert of.places[0] == 0 and not of.vectors[0].any()
    assert (record.place, record.width, record.found) == (0, 3, 3)
    assert of.remark == ""


@pytest.mark.parametrize("values", ["lines.txt", "values.npy"])
def test_an_npy_comes_with_its_values(dataset, tmp_path, values):
    np.save(tmp_path / "v.npy", GIVEN.astype(np.float16))
    (tmp_path / "lines.txt").write_text("\n".join(ITEMS))
    np.save(tmp_path / "values.npy", np.array(ITEMS))

    rows, *_ = read(dataset, tmp_path / "v.npy", values=str(tmp_path / values))

    np.testing.assert_allclose([rows[item] for item in ITEMS], scaled(GIVEN), atol=1e-6)


@pytest.mark.parametrize(
    ("field", "values", "known"),
    [
        ("code", np.array([30, 10]), ["30", "10"]),
        ("code", np.array([30.0, 10.0]), ["30", "10"]),
        ("code", np.array([" 30", "10.0"]), ["30", "10"]),
        ("ratio", np.array([2, 0.5]), ["2", "0.5"]),
        ("ratio", np.array(["2.0", "5.0e-01"]), ["2", "0.5"]),
        ("flag", np.array([True, False]), ["true", "false"]),
        ("flag", np.array(["False", "TRUE"]), ["false", "true"]),
        ("tags", np.array(["bob", "cy d"]), ["bob", "cy d"]),
        ("item", np.array([b"bob", b"ann"]), ["bob", "ann"]),
    ],
)
def test_values_are_matched_as_the_vocabulary_spells_them(dataset, tmp_path, field, values, known):
    np.savez(tmp_path / "v.npz", values=values, vectors=np.array([[1, 0], [0, 1]]))

    rows, of, _ = read(dataset, tmp_path / "v.npz", field)

    got = {value: row.tolist() for value, row in rows.items() if row.any()}
    half = np.sqrt(0.5)
    first, second = pytest.approx([half, -half]), pytest.approx([-half, half])
    assert got == {known[0]: first, known[1]: second}
    others = len(rows) - 2 - (None in rows)
    assert (of.remark == "") == (others == 0)


def test_a_missing_value_in_the_file_is_nobodys(dataset, tmp_path):
    pl.DataFrame(
        {"item": [None, "NULL", "bob", "ann"], "v": [[5.0], [6.0], [1.0], [3.0]]}
    ).write_parquet(tmp_path / "v.parquet")

    rows, of, _ = read(dataset, tmp_path / "v.parquet")

    assert (rows["bob"], rows["ann"], rows[None]) == ([-1], [1], [0])
    assert of.remark == (
        "2 of 3 values of 'item' have a vector, 50.0% of rows; the others have rows alone"
    )


def test_principal_components_go_through_unchanged_but_for_their_scale(dataset, tmp_path):
    numbers = np.random.default_rng(0).normal(size=(3, 8))
    components = PCA(2).fit_transform(numbers)  # its mean is 0 already
    np.savez(tmp_path / "v.npz", values=np.array(ITEMS), vectors=components)

    rows, *_ = read(dataset, tmp_path / "v.npz")

    length = np.sqrt((components**2).sum(axis=1).mean())
    np.testing.assert_allclose([rows[i] for i in ITEMS], components / length, atol=1e-6)


def test_only_the_rows_of_the_vocabulary_are_kept(dataset, tmp_path):
    count, width = 200_000, 64
    values = np.array([f"w{n}" for n in range(count)])
    values[[7, 150_000]] = "ann", "bob"
    vectors = np.zeros((count, width), np.float32)
    vectors[7, 0] = 1
    np.savez(tmp_path / "v.npz", values=values, vectors=vectors)  # 51 MB of vectors
    del values, vectors

    tracemalloc.start()
    _, of, _ = read(dataset, tmp_path / "v.npz")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert of.vectors.shape == (3, width)
    assert peak < 20e6


def test_text_is_read_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("multiembed.data.sources.vector_files.BYTES", 100)
    lines = [f"w{n} {n} {-n}" for n in range(50)]
    (tmp_path / "v.txt").write_text("50 2\n" + "\n".join(lines))

    blocks = list(vector_blocks(tmp_path / "v.txt", "item"))

    assert [v for block in blocks for v in block.values] == [f"w{n}" for n in range(50)]
    vectors = np.vstack([block.take(np.arange(len(block.values))) for block in blocks])
    assert vectors.tolist() == [[n, -n] for n in range(50)]


def lists(*vectors, values=("ann", "bob"), kind=None):
    def write(path):
        table = pa.table({"item": list(values), "v": pa.array(list(vectors), kind)})
        pq.write_table(table, path)

    return write


def npz(**arrays):
    return lambda path: np.savez(path, **arrays)


def words(content):
    return lambda path: path.write_bytes(content)


NAMES = np.array(["ann", "bob"])
BAD = {
    "1.parquet": (lists([1.0], [1.0, 2.0]), "vectors of 'v' must have one length, got 1, 2"),
    "2.parquet": (lists([1.0], None), "must have one length, got none, 1"),
    "3.parquet": (lists(["a"], ["b"]), "must have vectors of numbers, got columns item (string)"),
    "4.parquet": (lists("1 2", "3 4"), "must have vectors of numbers"),
    "5.parquet": (lists([1.0], [np.nan]), "vector of 'bob' must be of finite numbers, got nan"),
    "6.parquet": (lists([1.0], [None], kind=pa.list_(pa.float64())), "finite numbers, got nan"),
    "7.parquet": (lists([1.0], [2.0], values=("ann", "ann ")), "got another of 'ann '"),
    "8.parquet": (lists([1.0], [2.0], values=("x", "y")), "such as 'ann' and 'bob', got none, but"),
    "9.parquet": (lists([1.0], [1.0]), "must tell values apart, got one vector for all"),
    "a.npz": (npz(values=NAMES, vectors=np.array([[np.inf], [1]])), "finite numbers, got inf"),
    "b.npz": (npz(values=NAMES, vectors=np.array([[1e300], [1]])), "finite numbers, got inf"),
    "c.npz": (npz(values=NAMES, vectors=np.array([["a"], ["b"]])), "must be a matrix of numbers"),
    "d.npz": (npz(values=NAMES, vectors=np.array([1.0, 2.0])), "must be a matrix of numbers"),
    "e.npz": (npz(values=NAMES, vectors=np.ones((3, 2))), "as many values as vectors, got 2 and 3"),
    "f.npz": (npz(names=NAMES, x=np.ones((2, 2))), "the arrays values and vectors, got names, x"),
    "g.npz": (npz(values=NAMES.astype(object), vectors=np.ones((2, 2))), "got: Python objects"),
    "h.npy": (lambda path: np.save(path, np.ones((2, 2))), "must come with values"),
    "i.txt": (words(b"2 2\nann 1 2\nbob 1\n"), "line 3 must be a value and 2 numbers, got 1"),
    "j.txt": (words(b"2 2\nann 1 2\nbob 1.5 2 3\n"), "line 3 must be a value and 2 numbers, got 3"),
    "k.txt": (words(b"2 2\nann 1 2\nbob 1 x\n"), "line 3 must be a value and 2 numbers"),
    "l.txt": (words(b"2 2\nann 1 2\nbob nan 1\n"), "finite numbers, got nan"),
    "m.txt": (words(b"3 2\nann 1 2\nbob 2 1\n"), "must hold 3 vectors, as line 1 says, got 2"),
    "n.txt": (words(b""), "must be Parquet, .npz, .npy or word2vec's text, got nothing"),
    "o.txt": (words(b"ann\nbob\n"), "line 1 must be a value and numbers, got none"),
    "p.json": (words(b'{"ann": [1, 2]}'), "word2vec's text, got json"),
    "q.npz": (words(b"PK\x03\x04 cut"), "must be readable"),
    "r.parquet": (words(b"PAR1 cut"), "must be readable"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_of_no_use_is_one_line(dataset, tmp_path, name):
    write, message = BAD[name]
    write(tmp_path / name)

    with pytest.raises(me.DataError) as refused:
        read(dataset, tmp_path / name)

    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("itme", "must be one of .*; did you mean 'item'"),
        ("price", "'price' must hold values to have vectors, got buckets"),
        ("hashed", "'hashed' must hold values to have vectors, got hashed ones"),
        ("at_hour", "'at_hour' must hold values to have vectors, got buckets or parts of moments"),
    ],
)
def test_fields_without_values_of_their_own_are_refused(dataset, tmp_path, field, message):
    as_npz(tmp_path / "v.npz")

    with pytest.raises(me.ConfigError, match=message):
        read(dataset, tmp_path / "v.npz", field)


def test_a_file_that_is_gone_or_another_is_refused(dataset, tmp_path):
    with pytest.raises(me.DataError, match=r"v\.npz must be readable, got: No such file"):
        read(dataset, tmp_path / "v.npz")
    as_npz(tmp_path / "v.npz")
    *_, record = read(dataset, tmp_path / "v.npz")
    read(dataset, tmp_path / "v.npz", sha256=record.sha256)
    with pytest.raises(me.DataError, match="must have SHA-256 abc, got"):
        read(dataset, tmp_path / "v.npz", sha256="abc")
