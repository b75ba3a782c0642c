"""Hostile files of every kind, written byte by byte; `HOSTILE` has what writes each, by name."""

import gzip
import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
import zlib

import numpy as np
import polars as pl
from hostile_pickles import (
    BIG,
    DEEP,
    MANY,
    MODULE,
    OUTSIDE,
    PICKLES,
    SYSTEM,
    TENSORS,
    mapping,
    name,
    number,
    tensor,
    tup,
    u,
    whole,
)


def archive(content, kind=zipfile.ZIP_STORED, root="archive", **entries):
    def write(path):
        with zipfile.ZipFile(path, "w", kind) as out:
            out.writestr(f"{root}/data.pkl", content)
            for place, data in entries.items():
                out.writestr(f"{root}/{place.replace('__', '/')}", data)

    return write


def raw(*content):
    return lambda path: path.write_bytes(b"".join(content))


def weights(built, **entries):
    return archive(whole(mapping(emb=built)), **{"data__0": bytes(400), **entries})


def old_storage(key, count):
    parts = (u("storage"), name("torch", "FloatStorage"), u(key), u("cpu"), number(count), b"N")
    return tup(*parts) + b"Q"


def legacy(content, keys=b"]", *behind):
    head = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + whole(b"M\xe9\x03") + whole(b"}")
    return raw(head, whole(content), whole(keys), *behind)


def zipped(*entries, kind=zipfile.ZIP_DEFLATED, change=lambda content: content):
    """Write a zip whose bytes are changed behind it."""

    def write(path):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", kind) as out:
            for place, data in entries:
                out.writestr(place, data)
        path.write_bytes(change(file.getvalue()))

    return write


def npy(shape, kind="<f4", data=b"", order=False):
    text = f"{{'descr': {kind!r}, 'fortran_order': {order}, 'shape': {shape}, }}"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode() + data


def zeros(size):
    """Return so many zero bytes, as a zip holds them, without ever having them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block, packed, check = bytes(2**20), [], 0
    for _ in range(size // 2**20):
        packed.append(packer.compress(block))
        check = zlib.crc32(block, check)
    return b"".join([*packed, packer.flush()]), check


def bomb(path, *places, size=2**27, copies=1, flag=0):
    """Write a zip of zeros, each entry named several times where it is copied."""
    packed, check = zeros(size)
    body, central = b"", b""
    for place in places:
        rest = struct.pack(
            "<HHHHHLLLHH", 20, flag, 8, 0, 0, check, len(packed), size, len(place), 0
        )
        entry = (
            b"PK\1\2\x14\0" + rest + struct.pack("<HHHLL", 0, 0, 0, 0, len(body)) + place.encode()
        )
        central += entry * copies
        body += b"PK\3\4" + rest + place.encode() + packed
    ends = (0, 0, len(places) * copies, len(places) * copies, len(central), len(body), 0)
    path.write_bytes(body + central + b"PK\5\6" + struct.pack("<HHHHLLH", *ends))


def swapped(old, new):
    return lambda content: content.replace(old, new)


def taken(kind, target):
    """Write a tar archive of one link, pipe or name that leads outside."""

    def write(path):
        with tarfile.open(path, "w") as out:
            entry = tarfile.TarInfo("../../" + OUTSIDE if kind == tarfile.REGTYPE else "storages")
            entry.type, entry.linkname = kind, target
            out.addfile(entry)

    return write


def safe(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return raw(struct.pack("<Q", len(text) if length is None else length), text, data)


def place(shape, start, stop, kind="F32"):
    return {"dtype": kind, "shape": shape, "data_offsets": [start, stop]}


def gguf(*parts, tensors=1, values=0):
    return raw(b"GGUF", struct.pack("<IQQ", 3, tensors, values), *parts)


def listed(shape, kind=0, offset=0):
    text = b"token_embd.weight"
    sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return struct.pack("<Q", len(text)) + text + sizes + struct.pack("<IQ", kind, offset)


def field(number, value):
    head = b""
    size = len(value)
    while size > 127:
        head, size = head + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + head + bytes([size]) + value


def onnx(*parts):
    return raw(b"\x08\x07\x12\x01a", field(7, b"".join(parts)))


def nested_graphs(depth):
    inner = b""
    for _ in range(depth):
        inner = field(1, field(5, field(6, inner)))
        if len(inner) > 100_000:
            break
    return inner


def outside(location, offset="0"):
    pairs = {"location": location, "offset": offset}
    held = [field(13, field(1, k.encode()) + field(2, v.encode())) for k, v in pairs.items()]
    return onnx(field(5, b"\x08\x09\x08\x03\x10\x01" + field(8, b"w") + b"".join(held)))


def quine(levels):
    content = b"user 1.0 2.0\nitem 3.0 4.0\n"
    for _ in range(levels):
        content = gzip.compress(content)
    return content


ELSEWHERE = ("os.system", "getattr chain", "attributes of a class", "laughing storage", "deep")
FOUR = npy((2, 2), data=bytes(16))
TWICE = [("a.npy", FOUR), ("b.npy", FOUR)]
LONG = struct.pack("<L", len(FOUR))
CONFIG = "data__weights__model_weights_config.json"
POINTER = {"dtype": 7, "sizes": [{"as_int": BIG}], "strides": [{"as_int": 1}]}
BEYOND = {
    "path_name": "../../../etc/passwd",
    "tensor_meta": POINTER | {"storage_offset": {"as_int": -1}},
}
PICKLED = {"path_name": "weight_0", "use_pickle": True}
FAST = struct.pack("<ii", 793712314, 12) + bytes(56)
SIZES = (b"\x08" + b"\xff" * 8 + b"\x7f") * 5_000
SAME = b'{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"a":{"dtype":"F32","shape":[9,9],'
HOSTILE = {
    **{f"pickle: {said}": raw(whole(steps)) for said, steps in PICKLES.items()},
    **{f"torch: {said}": archive(whole(PICKLES[said])) for said in ELSEWHERE},
    **{f"legacy: {said}": legacy(PICKLES[said]) for said in ELSEWHERE},
    **{f"torch: {said}": weights(steps) for said, steps in TENSORS.items()},
    **{
        f"script: {said}": weights(
            steps,
            constants__pkl=b"",
            **{
                "constants.pkl": whole(b")"),
                "code____torch__.py": f"open({OUTSIDE!r}, 'w')",
                "version": "3",
            },
        )
        for said, steps in {"of code": SYSTEM, "beyond": TENSORS["beyond the storage"]}.items()
    },
    "package": weights(
        SYSTEM,
        **{".data__extern_modules": "os", "model.pkl": whole(SYSTEM), "model.py": "import os"},
    ),
    "AOTInductor": archive(
        whole(SYSTEM), **{"data__aotinductor__model__x.so": b"\x7fELF", CONFIG: "{}"}
    ),
    "exported": archive(
        whole(b"N"),
        **{
            CONFIG: json.dumps({"config": {"w": PICKLED}}),
            "data__weights__weight_0": whole(SYSTEM),
        },
    ),
    "exported, deep": archive(whole(b"N"), **{CONFIG: "[" * 10**5}),
    "exported, beyond": archive(whole(b"N"), **{CONFIG: json.dumps({"config": {"w": BEYOND}})}),
    "legacy: a module": legacy(mapping(emb=MODULE + b"Q")),
    "legacy: storages larger than the file": legacy(
        mapping(emb=tensor(old_storage("0", MANY), 0, (25, 4), (4, 1)))
    ),
    "legacy: a storage that is never filled": legacy(
        mapping(emb=tensor(old_storage("0", 20), 0, (5, 4), (4, 1))), b"]", bytes(400)
    ),
    "legacy: storages that fill the memory": legacy(
        b"](" + b"".join(old_storage(str(k), 10**5) for k in range(9000)) + b"e", b"]", bytes(10**6)
    ),
    "tar: a link": taken(tarfile.SYMTYPE, "/etc/passwd"),
    "tar: a hard link": taken(tarfile.LNKTYPE, "/etc/passwd"),
    "tar: a pipe": taken(tarfile.FIFOTYPE, ""),
    "tar: outside": taken(tarfile.REGTYPE, ""),
    "a pipe": lambda path: os.mkfifo(path),
    "zip: zeros": lambda path: bomb(path, "a.npy", "b.npy"),
    "zip: overlapping": lambda path: bomb(path, "a.npy", copies=3, size=2**20),
    "zip: torch of zeros": lambda path: bomb(path, "archive/data.pkl"),
    "zip: encrypted": lambda path: bomb(path, "a.npy", size=2**20, flag=1),
    "zip: a name twice": zipped(*TWICE, change=swapped(b"b.npy", b"a.npy")),
    "zip: a size that lies": zipped(
        *TWICE[:1], kind=0, change=swapped(LONG * 2, struct.pack("<LL", 2**31, 2**31))
    ),
    "zip: packed size that lies": zipped(
        *TWICE[:1], kind=0, change=swapped(LONG, struct.pack("<L", 2**31))
    ),
    "npz: an array beyond its entry": zipped(("a.npy", npy((10**6, 10**6)))),
    "npz: sizes that overflow": zipped(("a.npy", npy((2**62, 2**62)))),
    "npz: objects": zipped(("a.npy", npy((1,), "|O", whole(SYSTEM)))),
    "npy: beyond the file": raw(npy((10**6, 10**6))),
    "npy: negative": raw(npy((-5, -4), data=bytes(80))),
    "npy: objects": raw(npy((1,), "|O", whole(SYSTEM))),
    "npy: objects, deep": raw(npy((1,), "|O", whole(DEEP))),
    "npy: deep": raw(npy("(" * 9000)),
    "npy: code": raw(npy(f"__import__('os').system('touch {OUTSIDE}')")),
    "safetensors: a header of exabytes": safe({}, length=2**63),
    "safetensors: deep": safe(b'{"a":' + b"[" * 10**5),
    "safetensors: overlap": safe({"a": place([2, 2], 0, 16), "b": place([2, 2], 8, 24)}, bytes(24)),
    "safetensors: beyond": safe({"a": place([2, 2], 0, 16)}, bytes(8)),
    "safetensors: product that overflows": safe({"a": place([2**32, 2**32], 0, 0)}),
    "safetensors: negative": safe({"a": place([-2, -2], 0, 16)}, bytes(16)),
    "safetensors: twice": safe(SAME + b'"data_offsets":[0,16]}}', bytes(16)),
    "safetensors: no numbers": safe(b'{"a":5}'),
    "gguf: lists in lists": gguf(
        struct.pack("<Q", 1), b"a", struct.pack("<I", 9), struct.pack("<IQ", 9, 1) * 10**5, values=1
    ),
    "gguf: no alignment": gguf(
        struct.pack("<Q", 17),
        b"general.alignment",
        struct.pack("<II", 4, 0),
        listed((4, 5)),
        values=1,
    ),
    "gguf: endless": gguf(tensors=2**62, values=2**62),
    "gguf: a text of exabytes": gguf(struct.pack("<Q", 2**63 - 1)),
    "gguf: endless axes": gguf(struct.pack("<Q", 1), b"a", struct.pack("<I", 2**32 - 1)),
    "gguf: beyond": gguf(listed((2**40, 2**20))),
    "gguf: blocks beyond": gguf(listed((64, 2**40), 8)),
    "onnx: outside": outside("../../../../../../etc/passwd"),
    "onnx: absolute": outside("/etc/passwd"),
    "onnx: an offset below": outside("hostile.file", "-9"),
    "onnx: graphs in graphs": onnx(nested_graphs(3000)),
    "onnx: endless sizes": onnx(field(5, SIZES + b"\x10\x01" + field(8, b"w"))),
    "faiss: negative": raw(b"IxF2", struct.pack("<iqqq?iQ", -4, -5, 0, 0, True, 1, 20), bytes(80)),
    "faiss: beyond": raw(
        b"IxF2", struct.pack("<iqqq?iQ", 4, MANY, 0, 0, True, 1, 4 * MANY), bytes(80)
    ),
    "fastText: endless": raw(FAST, struct.pack("<iiiqq", 2**31 - 1, 9, 0, 0, 0)),
    "fastText: pruned": raw(FAST, struct.pack("<iiiqq", 0, 9, 0, 0, 2**60)),
    "word2vec: endless": raw(b"1000000000000 300\nuser \0\0\0\0"),
    "word2vec: endless columns": raw(b"5 1000000000000\nuser \0\0\0\0"),
    "word2vec: no columns": raw(b"5 0\nuser \0\xff"),
    "words: endless": raw(b"1000000000000 2\nuser 1.0 2.0\n"),
    "csv: too wide": raw(b"a" + b",b" * 9999, b"\n1" + b",1" * 9999),
    "csv: columns times rows": raw(b"a" + b",b" * 9999, b"\n1" * 9999),
    "words: columns times rows": raw(
        b"user 1.0 2.0\n" * 3, b"item" + b" 1" * 9999, b"\nb 1.0 2.0" * 9999
    ),
    "json: deep": raw(b"[" * 10**5),
    "json: keys times rows": raw(json.dumps([{f"k{k}": k} for k in range(9000)]).encode()),
    "json: a number": raw(b"[[1.0, 2.0], [1.0, " + b"9" * 9999 + b"]]"),
    "gzip: zeros": raw(gzip.compress(bytes(2**27), 9)),
    "gzip: in one another": raw(quine(99)),
    "zlib: zeros": raw(zlib.compress(bytes(2**27), 9)),
    "arrow: nonsense": raw(b"ARROW1\0\0", bytes(99), struct.pack("<i", 2**31 - 1), b"ARROW1"),
    "arrow: zeros": lambda path: pl.DataFrame({"a": np.zeros(10**7)}).write_ipc(
        path, compression="zstd"
    ),
    "parquet: too wide": lambda path: pl.DataFrame(
        {f"c{n}": [0.0] for n in range(9000)}
    ).write_parquet(path),
    "parquet: zeros": pl.DataFrame({"a": np.zeros(10**7), "b": np.zeros(10**7)}).write_parquet,
    "parquet: nonsense": raw(b"PAR1", bytes(99), struct.pack("<i", 2**31 - 1), b"PAR1"),
    "hdf5: nonsense": raw(b"\x89HDF\r\n\x1a\n", bytes(999)),
    "TensorFlow: nonsense": raw(bytes(99), bytes.fromhex("57fb808b247547db")),
}
