"""Hostile pickles, step by step: each would run, write, hang or fill the memory somewhere."""

import struct

OUTSIDE = "/tmp/multiembed_was_here"
"""The file that would be there if any of them had its way."""
MANY = 10**12


def u(text):
    raw = text.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value):
    if 0 <= value < 256:
        return bytes([75, value])
    raw = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def name(module, of):
    return f"c{module}\n{of}\n".encode()


def tup(*parts):
    return b"(" + b"".join(parts) + b"t"


def call(module, of, *arguments):
    return name(module, of) + tup(*arguments) + b"R"


def whole(*parts, protocol=2):
    return bytes([128, protocol]) + b"".join(parts) + b"."


def mapping(**items):
    return b"}(" + b"".join(u(key) + value for key, value in items.items()) + b"u"


def storage(key, count, kind="FloatStorage"):
    return tup(u("storage"), name("torch", kind), u(key), u("cpu"), number(count)) + b"Q"


def tensor(held, offset, sizes, strides, build="_rebuild_tensor_v2"):
    parts = (number(offset), tup(*map(number, sizes)), tup(*map(number, strides)))
    return call("torch._utils", build, held, *parts, b"\x89", b"N")


SYSTEM = call("os", "system", u(f"touch {OUTSIDE}"))
OPEN = call("builtins", "open", u(OUTSIDE), u("w"))
EVAL = call("builtins", "exec", u(f"open({OUTSIDE!r}, 'w')"))
LAUGHS = b")" + b"2\x86" * 60
DEEP = b")" + b"\x85" * 30_000
SELF = b"]2a"
VIEW = tensor(storage("0", 100), 0, (25, 4), (4, 1))
MODULE = tup(u("module"), name("torch.nn", "Module"), u(OUTSIDE), u("open('x', 'w')"))

PICKLES = {
    "os.system": SYSTEM,
    "open": OPEN,
    "exec": EVAL,
    "getattr chain": call(
        "builtins", "getattr", call("builtins", "getattr", name("os", "path"), u("os")), u("system")
    )
    + tup(u(f"touch {OUTSIDE}"))
    + b"R",
    "getattr of a tuple": call("builtins", "getattr", LAUGHS, LAUGHS),
    "an instance": f"(S'touch {OUTSIDE}'\nios\nsystem\n".encode(),
    "an object": b"(" + name("os", "system") + u(f"touch {OUTSIDE}") + b"o",
    "new with names": name("subprocess", "Popen") + tup(u("touch")) + b"}\x92",
    "dotted": u("os") + u("path.os.system") + b"\x93" + tup(u(f"touch {OUTSIDE}")) + b"R",
    "attributes of a class": name("torch.storage", "UntypedStorage")
    + b"N"
    + mapping(dump_patches=b"\x88", __name__=u(OUTSIDE))
    + b"\x86b",
    "attributes of a function": name("torch._utils", "_rebuild_tensor_v2") + mapping(x=b"N") + b"b",
    "attributes of a type": name("torch", "float32") + mapping(x=b"N") + b"b",
    "calls a tensor's type": name("torch", "float32") + b")R",
    "calls a list": b"])R",
    "an array that reduces": call("numpy.core.multiarray", "scalar", name("numpy", "dtype"), b"N"),
    "an extension": b"\x82\x01",
    "persistent ids in one another": (tup(u("storage")) + b"Q") * 3 + b"Q",
    "a class of NUL": name("a", "b\0c") + b")R",
    "laughing keys": b"}" + LAUGHS + b"Ns",
    "laughing storage": tup(u("storage"), name("torch", "FloatStorage"), LAUGHS, b"N", b"K\1")
    + b"Q",
    "laughing set": b"\x8f(" + LAUGHS + b"\x90",
    "laughing frozenset": b"(" + LAUGHS + b"\x91",
    "a deep key": b"}" + DEEP + b"Ns",
    "deep": DEEP,
    "deep dictionaries": b"}" * 30_000 + u("a") * 0 + b"".join([u("a"), b"N", b"s"]),
    "deep models": (b"}" + u("model")) * 20_000 + VIEW + b"s" * 20_000,
    "in itself": SELF,
    "in itself by a model": b"}" + u("model") + b"2" * 0 + b"}q\1" + u("model") + b"h\1sh\1s",
    "a memo of gigabytes": b"Nr\xff\xff\xff\x7f",
    "colliding keys": b"}("
    + b"".join(number(k * (2**61 - 1)) + b"N" for k in range(1, 20_000))
    + b"u",
    "a long": b"\x8b\xff\xff\xff\x7f1",
    "bytes of terabytes": b"\x8e" + struct.pack("<Q", MANY) + b"a",
    "a bytearray of terabytes": b"\x96" + struct.pack("<Q", 10**10) + b"a",
    "a frame of terabytes": b"\x95" + struct.pack("<Q", MANY) + b"N",
    "text of gigabytes": b"X\xff\xff\xff\x7fa",
    "copies of text": b"X"
    + struct.pack("<I", 10**6)
    + b"a" * 10**6
    + b"q\1]q\2"
    + (b"h\2" + call("_codecs", "encode", b"h\1") + b"a") * 2000,
    "copies of a dictionary": b"}("
    + b"".join(u(f"k{k}") + b"N" for k in range(5_000))
    + b"uq\1]"
    + (name("a", "b") + b")Rh\1ba") * 2000,
    "copies of arrays": b"C\xffX" * 0
    + b"B"
    + struct.pack("<I", 10**6)
    + bytes(10**6)
    + b"q\1]"
    + (
        call(
            "numpy._core.numeric",
            "_frombuffer",
            b"h\1",
            call("numpy", "dtype", u("f4")),
            tup(number(250), number(1000)),
            u("C"),
        )
        + b"a"
    )
    * 3000,
    "many classes": b"]" + b"".join(name("a", f"c{k}") + b"a" for k in range(10_001)),
    "a name of a megabyte": b"}" + u("a" * 10**6) + VIEW + b"s",
    "a string of Python 2": b"S'\\x00\\xff'\n",
}
"""What a pickle does, whatever file it is in."""

STATE = {
    "an array without end": (
        number(1),
        tup(number(2**62), number(2**62)),
        "f4",
        b"\x89",
        b"C\x01a",
    ),
    "an array of negative sizes": (
        number(1),
        tup(number(-4), number(-1)),
        "f4",
        b"\x89",
        b"C\4abcd",
    ),
    "an array of a million axes": (number(1), tup(*[number(2**40)] * 9999), "f4", b"\x89", b"C\0"),
    "an array of objects": (number(1), tup(number(1)), "O", b"\x89", b"](" + SYSTEM + b"e"),
    "an array with fields": (number(1), tup(number(1)), "V8", b"\x89", b"C\4abcd"),
}
for said, (version, shape, kind, order, data) in STATE.items():
    made = call(
        "numpy.core.multiarray", "_reconstruct", name("numpy", "ndarray"), tup(b"K\0"), u("b")
    )
    dtype = call("numpy", "dtype", u(kind), b"\x89", b"\x88")
    PICKLES[said] = made + tup(version, shape, dtype, order, data) + b"b"

BIG = 2**62
TENSORS = {
    "a stride of 0": tensor(storage("0", 1), 0, (10**9, 10), (0, 0)),
    "beyond the storage": tensor(storage("0", 100), 0, (26, 4), (4, 1)),
    "an offset beyond": tensor(storage("0", 100), 99, (25, 4), (4, 1)),
    "a negative offset": tensor(storage("0", 100), -4, (25, 4), (4, 1)),
    "negative sizes": tensor(storage("0", 100), 0, (-25, -4), (4, 1)),
    "negative strides": tensor(storage("0", 100), 0, (25, 4), (-4, -1)),
    "sizes that overflow": tensor(storage("0", 100), 0, (BIG, 4), (4, 1)),
    "strides that overflow": tensor(storage("0", 100), 0, (2, 2), (BIG * 4, 1)),
    "an offset that overflows": tensor(storage("0", 100), 2**64, (25, 4), (4, 1)),
    "no columns and all rows": tensor(storage("0", 100), 0, (BIG, 0), (1, 1)),
    "10,000 axes": tensor(storage("0", 100), 0, (1,) * 10_000, (1,) * 10_000),
    "no storage": tensor(b"N", 0, (25, 4), (4, 1)),
    "a storage that is missing": tensor(storage("7", 100), 0, (25, 4), (4, 1)),
    "a storage of another name": tensor(storage("../version", 1), 0, (2, 2), (2, 1)),
    "views of one storage": b"]("
    + b"".join(tensor(storage("0", 100), 0, (10, 4 + k % 7), (10, 1)) for k in range(9)) * 9
    + tensor(storage("0", 100), 0, (26, 4), (4, 1))
    + b"e",
    "a quantised one of laughs": call(
        "torch._utils",
        "_rebuild_qtensor",
        storage("0", 400, "QInt8Storage"),
        b"K\0",
        tup(number(25), number(4)),
        tup(number(4), number(1)),
        tup(name("torch", "per_tensor_affine"), LAUGHS, b"K\0"),
        b"\x89",
        b"N",
    ),
    "a quantised one that grows": call(
        "torch._utils",
        "_rebuild_qtensor",
        storage("0", 400, "QInt8Storage"),
        b"K\0",
        tup(number(400), number(1)),
        tup(number(1), number(1)),
        tup(
            name("torch", "per_channel_affine"),
            *[tensor(storage("0", 100), 0, (100,), (1,))] * 2,
            number(1),
        ),
        b"\x89",
        b"N",
    ),
    "a subclass that calls": call(
        "torch._tensor",
        "_rebuild_from_type_v2",
        name("os", "system"),
        name("a", "b"),
        tup(u(f"touch {OUTSIDE}")),
        mapping(x=b"N"),
    ),
    "subclasses in one another": name("torch._tensor", "_rebuild_from_type_v2")
    + b"q\1("
    + b"h\1N(" * 20_000
    + b"ttR" * 0
    + b"t" * 20_000
    + b"tR",
    "a wrapper": call(
        "torch._utils",
        "_rebuild_wrapper_subclass",
        name("a", "b"),
        b"N",
        tup(number(-1), number(BIG * 4)),
    ),
    "a sparse one": call(
        "torch._utils", "_rebuild_sparse_tensor", name("torch", "sparse_coo"), tup()
    ),
    "a parameter of nothing": call("torch._utils", "_rebuild_parameter", LAUGHS, b"\x88", b"}"),
}
