"""Files and directories that are known and not read: what they are, and how to convert them."""

from pathlib import Path

_NPZ = "numpy.savez(file, name=table)"

_STARTS: tuple[tuple[bytes, int, str], ...] = (
    (b"version https://git-lfs", 0, "a pointer of Git LFS, not the file: git lfs pull brings it"),
    (b"<", 0, "a web page or XML: was a download refused?"),
    (b"SQLite format 3\0", 0, "an SQLite database: write its vectors to CSV or Parquet"),
    (b"\x28\xb5\x2f\xfd", 0, "compressed by zstd: decompress it by zstd -d"),
    (b"\x04\x22\x4d\x18", 0, "compressed by lz4: decompress it by lz4 -d"),
    (b"7z\xbc\xaf\x27\x1c", 0, "a 7z archive: unpack it"),
    (b"Rar!", 0, "a RAR archive: unpack it"),
    (b"ustar", 257, "a tar archive: unpack it"),
    (b"TFL3", 4, f"a TensorFlow Lite model: write its tables by tf.lite.Interpreter and {_NPZ}"),
    (b"MATLAB", 0, f"a MATLAB file: write it by scipy.io.loadmat and {_NPZ}"),
    (b"RDX", 0, "a file of R: write its tables by write.csv"),
    (b"ORC", 0, "an ORC file: write it as Parquet"),
    (b"Obj\x01", 0, "an Avro file: write it as Parquet"),
    (b"FEA1", 0, "a Feather file of version 1: write it by pyarrow.feather.write_feather again"),
    (b"\x12\x01\0\0\0\0\0\0", 0, f"parameters of MXNet: write them by mx.nd.load and {_NPZ}"),
    (b"tree\n", 0, "a model of LightGBM: it has no embeddings"),
    (b"#Parameter#", 0, f"a model of DyNet: write its tables by lookup.npvalue() and {_NPZ}"),
    (b"#LookupParameter#", 0, f"a model of DyNet: write its tables by npvalue() and {_NPZ}"),
    (b"%PDF", 0, "a PDF"),
    (b"\x89PNG", 0, "a picture"),
)
_MEMBERS = {
    "[Content_Types].xml": "an Office document: save its sheet as CSV",
    "META-INF/MANIFEST.MF": "a Java archive (Spark, DL4J): write its vectors to CSV or Parquet",
}
_FOLDERS = {
    "saved_model.pb": (
        "a TensorFlow SavedModel: write its tables by numpy.savez from the variables of "
        "tf.saved_model.load(folder)"
    ),
    "manifest.ocdbt": f"an Orbax checkpoint of JAX: restore it by orbax.checkpoint, then {_NPZ}",
    "_CHECKPOINT_METADATA": f"an Orbax checkpoint of JAX: restore it, then {_NPZ}",
    "__model__": f"a model of PaddlePaddle: write its parameters by paddle.load and {_NPZ}",
}


def told_by_start(head: bytes, members: tuple[str, ...]) -> str | None:
    """Say what a file is that begins so, and holds such entries if it is a zip."""
    for start, at, what in _STARTS:
        if head[at : at + len(start)] == start:
            return what
    if head.startswith(b"PK\x03\x04") and not members:
        return "an archive that is cut short or broken"
    return next((what for name, what in _MEMBERS.items() if name in members), None)


def told_by_entries(folder: Path) -> str | None:
    """Say what a directory is that holds such entries."""
    return next((what for name, what in _FOLDERS.items() if (folder / name).exists()), None)
