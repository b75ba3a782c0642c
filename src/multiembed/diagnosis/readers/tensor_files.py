"""Opens a file or a directory and names the tensors in it; nothing is read before it is needed."""

import math
import stat
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from multiembed.base.errors import DataError
from multiembed.base.json_files import read_json_file
from multiembed.diagnosis.readers.array_files import read_archive, read_array, read_safetensors
from multiembed.diagnosis.readers.compressed import is_compressed, unpacked
from multiembed.diagnosis.readers.distributed import read_distributed
from multiembed.diagnosis.readers.faiss_files import is_index, read_index
from multiembed.diagnosis.readers.frame_files import (
    read_arrow,
    read_csv,
    read_json,
    read_parquet,
    separator_of,
)
from multiembed.diagnosis.readers.gguf_files import read_gguf
from multiembed.diagnosis.readers.keras_files import WEIGHTS, read_hdf5, read_keras
from multiembed.diagnosis.readers.onnx_files import is_onnx, read_onnx
from multiembed.diagnosis.readers.pickle_files import read_pickle
from multiembed.diagnosis.readers.pickles import LEGACY, first_line, is_pickle
from multiembed.diagnosis.readers.table import Contents, StoredTensor
from multiembed.diagnosis.readers.tensorflow_files import (
    checkpoint_of,
    is_index_of_checkpoint,
    read_tensorflow,
)
from multiembed.diagnosis.readers.torch_files import (
    read_exported,
    read_package,
    read_script,
    read_torch,
)
from multiembed.diagnosis.readers.unread import told_by_entries, told_by_start
from multiembed.diagnosis.readers.word_vectors import (
    FASTTEXT,
    is_word_binary,
    is_word_text,
    read_fasttext,
    read_word_binary,
    read_word_text,
)
from multiembed.diagnosis.readers.zip_files import check_unpacked


class Seen(NamedTuple):
    """What tells a file's kind: its first bytes, and what it holds if it is a zip."""

    path: Path
    head: bytes
    members: tuple[str, ...]

    def starts(self, *starts: bytes) -> bool:
        """Say whether the file begins with one of these."""
        return self.head.startswith(starts)

    def has(self, *ends: str) -> bool:
        """Say whether it is a zip with an entry of such a name."""
        return any(name.endswith(ends) for name in self.members)


def _never(_: Seen) -> bool:
    return False


class FileKind(NamedTuple):
    """One kind of file."""

    read: Callable[[Path], Contents]
    """Names what is in a file; rows are read when they are asked for."""
    suffixes: tuple[str, ...] = ()
    """Such files are looked for in a directory, and are of this kind if nothing else tells."""
    told: Callable[[Seen], bool] = _never
    """Whether a file's first bytes say that it is of this kind."""


def _safetensors(path: Path) -> Contents:
    # The format sorts its tensors by their type and name.
    return Contents(tensors=read_safetensors(path), ordered=False)


def _is_text(seen: Seen) -> bool:
    try:
        seen.head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(seen.head) - 4 and b"\0" not in seen.head
    return b"\0" not in seen.head


FILE_KINDS: dict[str, FileKind] = {
    "safetensors": FileKind(
        _safetensors, (".safetensors",), lambda seen: seen.head[8:10] in (b'{"', b"{}")
    ),
    "exported program": FileKind(
        read_exported,
        (".pt2",),
        lambda seen: seen.has("model_weights_config.json", "serialized_state_dict.pt"),
    ),
    "TorchScript": FileKind(read_script, (), lambda seen: seen.has("/constants.pkl")),
    "torch package": FileKind(read_package, (), lambda seen: seen.has(".data/extern_modules")),
    "torch": FileKind(
        read_torch,
        (".pt", ".pth", ".bin", ".ckpt", ".model", ".tar"),
        lambda seen: seen.has("/data.pkl", "data.pkl") or seen.starts(LEGACY),
    ),
    "NumPy archive": FileKind(
        read_archive,
        (".npz",),
        lambda seen: bool(seen.members) and all(n.endswith(".npy") for n in seen.members),
    ),
    "NumPy array": FileKind(read_array, (".npy",), lambda seen: seen.starts(b"\x93NUMPY")),
    "Keras": FileKind(read_keras, (".keras",), lambda seen: WEIGHTS in seen.members),
    "HDF5": FileKind(read_hdf5, (".h5", ".hdf5"), lambda seen: seen.starts(b"\x89HDF\r\n\x1a\n")),
    "GGUF": FileKind(read_gguf, (".gguf",), lambda seen: seen.starts(b"GGUF")),
    "FAISS": FileKind(read_index, (".faiss", ".index"), lambda seen: is_index(seen.head)),
    "fastText": FileKind(read_fasttext, (), lambda seen: seen.starts(FASTTEXT)),
    "Parquet": FileKind(read_parquet, (".parquet",), lambda seen: seen.starts(b"PAR1")),
    "Arrow": FileKind(
        read_arrow,
        (".arrow", ".feather", ".ipc"),
        lambda seen: seen.starts(b"ARROW1", b"\xff\xff\xff\xff"),
    ),
    "pickle": FileKind(
        read_pickle,
        (".pkl", ".pickle", ".joblib", ".kv", ".wordvectors"),
        lambda seen: is_pickle(seen.head),
    ),
    "TensorFlow checkpoint": FileKind(
        read_tensorflow, (), lambda seen: is_index_of_checkpoint(seen.path)
    ),
    "ONNX": FileKind(read_onnx, (".onnx",), lambda seen: is_onnx(seen.head)),
    "word2vec": FileKind(read_word_binary, (), lambda seen: is_word_binary(seen.head)),
    "JSON": FileKind(
        read_json,
        (".jsonl", ".ndjson"),
        lambda seen: seen.head.lstrip()[:1] in (b"{", b"[") and _is_text(seen),
    ),
    "words": FileKind(
        read_word_text,
        (".vec", ".w2v", ".glove"),
        lambda seen: _is_text(seen) and is_word_text(seen.head),
    ),
    "delimited text": FileKind(
        read_csv,
        (".csv", ".tsv"),
        lambda seen: (
            _is_text(seen)
            and not seen.starts(b"#Parameter#", b"#LookupParameter#")
            and separator_of(seen.head.split(b"\n")[0].decode("utf-8", "replace")) is not None
        ),
    ),
}
"""Files by kind, told by the first of them that knows the first bytes; of several kinds in one
directory, the first is read."""


def open_tensors(path: Path) -> Contents:
    """Return what a file or a directory holds by name.

    Raises:
        DataError: If there is nothing, or nothing that is read; the message says what it is.
    """
    try:
        path = checkpoint_of(path)
        kind_of_file = path.stat().st_mode
    except (OSError, ValueError) as error:  # nothing there, or no name that can be there
        raise DataError(f"{path} must be a file or a directory, got nothing there") from error
    if path.is_dir():
        return _open_folder(path)
    if not stat.S_ISREG(kind_of_file):
        raise DataError(f"{path} must be a file or a directory, got a pipe, a socket or a device")
    if path.stat().st_size == 0:
        raise DataError(f"{path} must be a checkpoint, got an empty file")
    seen = _look_at(path)
    return _decompressed(path, seen.head) if is_compressed(seen.head) else _read_as(seen)


def _read_as(seen: Seen) -> Contents:
    kind = kind_of(seen)
    if kind is None:
        what = told_by_start(seen.head, seen.members) or (
            f"a file of no known kind (it begins with {seen.head[:8]!r})"
        )
        raise DataError(f"{seen.path} must be a checkpoint or a file of vectors, got {what}")
    contents = kind.read(seen.path)
    tensors = (*contents.tensors.values(), *contents.beside.values())
    numbers = sum(math.prod(tensor.shape) * tensor.dtype.itemsize for tensor in tensors)
    check_unpacked(str(seen.path), numbers, _bytes_of(seen.path))
    return contents


def _bytes_of(path: Path) -> int:
    """Return the size of a file; of a model that may keep tensors beside it, that of them all."""
    if path.suffix not in (".onnx", ".index", ".pkl", ".model", ".kv"):
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.parent.iterdir() if file.is_file())


def kind_of(seen: Seen) -> FileKind | None:
    """Return the kind of a file by its first bytes; by its suffix if they tell nothing."""
    for kind in FILE_KINDS.values():
        if kind.told(seen):
            return kind
    if told_by_start(seen.head, seen.members) is not None:
        return None
    suffix = seen.path.suffix
    return next((kind for kind in FILE_KINDS.values() if suffix in kind.suffixes), None)


def _look_at(path: Path) -> Seen:
    with path.open("rb") as file:
        head = file.read(4096)
    members: tuple[str, ...] = ()
    if head.startswith(b"PK"):
        try:
            with zipfile.ZipFile(path) as archive:
                members = tuple(archive.namelist())
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
            pass  # cut short: its suffix says of what
    return Seen(path, head, members)


def _decompressed(path: Path, head: bytes) -> Contents:
    """Read what is compressed, all of it into memory."""
    with tempfile.TemporaryDirectory() as folder:
        inner = Path(folder, path.stem)
        try:
            with inner.open("wb") as out:
                for content in unpacked(path, head):
                    out.write(content)
                    check_unpacked(str(path), out.tell(), path.stat().st_size)
            contents = _read_as(_look_at(inner))
        except DataError as error:
            raise DataError(str(error).replace(str(inner), str(path))) from error
        except Exception as error:  # a cut stream fails in many ways
            raise DataError(f"{path}: must be a whole file, got {first_line(error)}") from error
        return replace(
            contents,
            tensors={n: StoredTensor.of(t.whole()) for n, t in contents.tensors.items()},
            beside={n: StoredTensor.of(t.whole()) for n, t in contents.beside.items()},
        )


def _open_folder(folder: Path) -> Contents:
    if (folder / ".metadata").is_file():
        return Contents(tensors=read_distributed(folder))
    if any(is_index_of_checkpoint(file) for file in folder.glob("*.index")):
        return read_tensorflow(folder)
    what = told_by_entries(folder)
    if what is not None:
        raise DataError(f"{folder} must hold a checkpoint that is read, got {what}")
    index = next(iter(sorted(folder.glob("*.index.json"))), None)
    named = {} if index is None else shards_of(index)
    files = [folder / name for name in sorted({*named.values()})] or _checkpoint_files(folder)
    if not files:
        suffixes = ", ".join(suffix for kind in FILE_KINDS.values() for suffix in kind.suffixes)
        raise DataError(
            f"{folder} must hold a checkpoint ({suffixes}, .distcp), got a directory without one"
        )
    found = _joined(folder, files)
    known = {*found.tensors, *found.same, *(of.name for of in found.skipped)}
    absent = next((name for name in named if name not in known), None)
    if absent is not None:
        raise DataError(f"{folder / named[absent]} must hold '{absent}', as {index} says")
    return found


def _joined(folder: Path, files: list[Path]) -> Contents:
    """Take several files for one checkpoint."""
    first = open_tensors(files[0])
    if len(files) > 1 and first.tables == first.tensors.keys():
        first = _named_by_file(first, files[0])
    for file in files[1:]:
        more = open_tensors(file)
        if more.tables == more.tensors.keys():  # vectors, of which several files may speak alike
            more = _named_by_file(more, file)
        clash = sorted(first.tensors.keys() & more.tensors.keys())
        if clash:
            raise DataError(f"{folder} must hold one checkpoint, got '{clash[0]}' in two files")
        first = replace(
            first,
            tensors={**first.tensors, **more.tensors},
            beside={**first.beside, **more.beside},
            tables=first.tables | more.tables,
            reasons={**first.reasons, **more.reasons},
            same={**first.same, **more.same},
            skipped=(*first.skipped, *more.skipped),
        )
    # Several files come in the order of their names, which is not the model's.
    return replace(first, ordered=first.ordered and len(files) == 1)


def _named_by_file(contents: Contents, file: Path) -> Contents:
    """Put the name of a file before those of its tables that do not have it."""
    named = {n if n == file.stem else f"{file.stem}.{n}": t for n, t in contents.tensors.items()}
    return replace(contents, tensors=named, tables=frozenset(named))


def _checkpoint_files(folder: Path) -> list[Path]:
    """Return the files of the one checkpoint in a directory; safetensors win over pickles."""
    files = sorted((f for f in folder.iterdir() if f.is_file()), key=lambda file: file.name)
    of_kinds = ([f for f in files if f.suffix in of.suffixes] for of in FILE_KINDS.values())
    return next((found for found in of_kinds if found), [])


def shards_of(index: Path) -> dict[str, str]:
    """Return the files that an index names for every weight, which lie beside it."""
    try:
        named = read_json_file(index)["weight_map"]
        for file in named.values():
            if not isinstance(file, str) or Path(file).name != file or not file.strip("."):
                raise TypeError("a shard must be a file beside its index")
    except (KeyError, AttributeError, TypeError) as error:
        raise DataError(f"{index}: must map names of weights to files beside it") from error
    return named
