"""What a file holds, told by its first bytes; and its text, decompressed and decoded."""

import bz2
import codecs
import io
import lzma
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from multiembed.base.errors import DataError
from multiembed.data.sources.source import reading

Stream = io.BufferedIOBase | pa.NativeFile

FIRST_BYTES = 1 << 12
BYTES_PER_STEP = 1 << 24
TABLES = {b"PAR1": "parquet", b"ARROW1": "arrow", b"\xff\xff\xff\xff": "stream"}
"""How files begin that hold typed columns."""
UNREAD = {
    **{b"ORC": "ORC", b"Obj\x01": "Avro", b"FEA1": "Feather 1", b"\x89HDF": "HDF5"},
    **{b"SQLite format 3": "SQLite", b"\x93NUMPY": "NumPy", b"%PDF": "PDF", b"7z\xbc\xaf": "7-Zip"},
    **{b"Rar!": "RAR", b"\x1f\x9d": "compress", b"\x5d\0\0": "LZMA", b"PARE": "encrypted Parquet"},
    **dict.fromkeys([b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"ccopy_reg"], "pickle"),
    **{b"\xd0\xcf\x11\xe0": "Excel", b"SEQ\x06": "a Hadoop sequence", b"<stata_dta>": "Stata"},
    **{b"version https://git-lfs": "a pointer of Git LFS", b"<?xml": "XML"},
    **dict.fromkeys([b"<!DOCTYPE", b"<!doctype", b"<html", b"<HTML"], "HTML"),
}
"""How others begin, whose name is better than a complaint about their bytes."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
BYTE_ORDERS = {
    **{b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32"},
    **{b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"},
}
"""How text in other encodings begins that says so."""
_JSON = re.compile(rb"(\xef\xbb\xbf)?\s*(\[\s*)?\{\s*\"")
"""How objects begin, on lines or in an array; no name of a column begins so."""
_UNDECODABLE = "multiembed.undecodable"


class FileContents(NamedTuple):
    """What a file holds."""

    kind: str
    """text, json, parquet, arrow, stream (Arrow's), or nothing."""
    name: str = ""
    """The text's name, in lower case and without what a compression added."""
    encoding: str = ""
    """What its byte order mark says, if it has one that is not UTF-8's."""


def look_into(file: Path) -> FileContents:
    """Tell what a file holds by its first bytes.

    Raises:
        DataError: If it cannot be read, or holds what is not read.
    """
    with reading([file]), _decompressed(file) as (raw, stream):
        first = stream.read(FIRST_BYTES)
        name = stream.name if isinstance(stream, zipfile.ZipExtFile) else file.name
    kind = next((kind for magic, kind in TABLES.items() if first.startswith(magic)), "text")
    packed = next((name for name, magic, _ in _COMPRESSIONS if re.match(magic, first)), "")
    if raw is not stream and (packed or kind != "text"):
        got = packed or kind
        raise DataError(f"{file} must be unpacked first, got {got} inside a compressed file")
    if first[257:262] == b"ustar":
        raise DataError(f"{file} must be unpacked first, got a tar archive")
    unread = next((kind for magic, kind in UNREAD.items() if first.startswith(magic)), None)
    if unread is not None:
        raise DataError(
            f"{file} must be text, JSON, Parquet or Arrow, plain or compressed, got {unread}"
        )
    kind = "json" if kind == "text" and _JSON.match(first) else kind
    blank = len(first) < FIRST_BYTES and not first.removeprefix(BYTE_ORDER_MARK).strip()
    encoding = next((name for mark, name in BYTE_ORDERS.items() if first.startswith(mark)), "")
    return FileContents("nothing" if blank else kind, name.lower(), encoding)


def read_text(
    file: Path, encoding: str = "", *, skipped: int = 0, step: int = BYTES_PER_STEP
) -> Iterator[tuple[bytes, int]]:
    """Read the text of a file as UTF-8, in pieces, each with the bytes of the file read so far.

    Args:
        file: Plain or compressed.
        encoding: Empty for UTF-8. What cannot be decoded becomes the byte 0xff, which no UTF-8 has.
        skipped: Bytes of UTF-8 that are left out at its beginning.
        step: Bytes read at once.

    Raises:
        DataError: If the file cannot be read.
    """
    with reading([file]), _decompressed(file) as (raw, stream):
        if raw is stream and not encoding:
            raw.seek(skipped)
            skipped = 0
        decode = _decoder(file, encoding) if encoding else None
        while data := stream.read(step):
            text = data if decode is None else decode(data)
            rest = text[skipped:] if skipped else text
            skipped -= len(text) - len(rest)
            if rest:
                yield rest, raw.tell()
        if decode is not None and (rest := decode(b"", True)):
            yield rest, raw.tell()


def can_seek(file: Path, encoding: str) -> bool:
    """Say whether the text of a file can be read from any of its bytes on."""
    with reading([file]), _decompressed(file) as (raw, stream):
        return raw is stream and not encoding


def _decoder(file: Path, encoding: str) -> Callable[..., bytes]:
    codecs.register_error(_UNDECODABLE, lambda error: ("\udcff", error.end))  # pyright: ignore
    decoder = codecs.getincrementaldecoder(encoding)(_UNDECODABLE)

    def decode(data: bytes, final: bool = False) -> bytes:
        try:
            return decoder.decode(data, final).encode("utf-8", "surrogateescape")
        except UnicodeError as error:  # no byte order mark, or a surrogate of its own
            raise DataError(f"{file} must be text in {encoding}, got: {error}") from None

    return decode


@contextmanager
def _decompressed(file: Path) -> Iterator[tuple[io.BufferedReader, Stream]]:
    """Open a file as it lies there and, through what compressed it, as what it holds."""
    with file.open("rb") as raw:
        first = raw.read(16)
        raw.seek(0)
        through = next((open for _, magic, open in _COMPRESSIONS if re.match(magic, first)), None)
        if through is None:
            yield raw, raw
            return
        with through(raw, file) as stream:
            yield raw, stream


def _by_arrow(kind: str) -> Callable[[io.BufferedReader, Path], pa.NativeFile]:
    return lambda raw, _: pa.CompressedInputStream(pa.PythonFile(raw, "r"), kind)


def _only_member(raw: io.BufferedReader, file: Path) -> zipfile.ZipExtFile:
    """Open the one file that an archive holds; what macOS adds is none."""
    archive = zipfile.ZipFile(raw)
    members = [
        member
        for member in archive.infolist()
        if not (member.is_dir() or member.filename.startswith("__MACOSX/"))
    ]
    names = ", ".join(member.filename for member in members[:3]) or "none"
    if names.startswith(("[Content_Types].xml", "mimetype")):
        raise DataError(f"{file} must be text, JSON, Parquet or Arrow, got a spreadsheet")
    if len(members) != 1:
        raise DataError(f"{file} must hold one file or be unpacked, got {len(members)}: {names}")
    if members[0].flag_bits & 1:
        raise DataError(f"{file} must be unpacked first, got an encrypted {names}")
    return archive.open(members[0])  # pyright: ignore


_COMPRESSIONS: tuple[tuple[str, bytes, Callable[[io.BufferedReader, Path], Stream]], ...] = (
    ("gzip", rb"\x1f\x8b", _by_arrow("gzip")),
    ("zstd", rb"\x28\xb5\x2f\xfd", _by_arrow("zstd")),
    ("lz4", rb"\x04\x22\x4d\x18", _by_arrow("lz4")),
    ("bzip2", rb"BZh[1-9](1AY&SY|\x17rE8P\x90)", lambda raw, _: bz2.BZ2File(raw)),
    ("xz", rb"\xfd7zXZ\0", lambda raw, _: lzma.LZMAFile(raw)),  # noqa: SIM115
    ("zip", rb"PK(\x03\x04|\x05\x06)", _only_member),
)
"""How compressed files begin, and what reads them."""
