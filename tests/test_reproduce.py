"""Every item of the paper, end to end at toy cost: runs are shared, files are whole, words fit."""

import csv
import re
import sys
from collections import Counter
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy import stats

from multiembed.__main__ import main
from multiembed.cli import grid_watching
from multiembed.data.store.dataset import open_dataset
from multiembed.diagnosis.diagnose import diagnose
from multiembed.experiments.grid.running import run_cases
from multiembed.experiments.paper import item_files as report
from multiembed.experiments.paper import toy
from multiembed.experiments.paper.item_files import draw_panels
from multiembed.experiments.paper.quality_tables import published_auc
from multiembed.experiments.paper.study import (
    ITEMS,
    Analysis,
    Bars,
    Item,
    Lines,
    Scope,
    no_runs,
)
from multiembed.testing.planted_clicks import PlantedClicks, write_planted

SETTINGS = {
    "model": {"options": {"hidden": [6, 4], "cross_layers": 2}},
    "training": {"max_epochs": 1, "batch_size": 512, "threads": 1},
}
FLAGS = [
    *("--seeds", "1", "--sizes", "1,2", "--shares", "0.1,1"),
    *("--set", "model.options={hidden=[6,4],cross_layers=2}"),
    *("--set", "training.max_epochs=1", "--set", "training.batch_size=512"),
    *("--set", "training.threads=1"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("paper")
    planted = PlantedClicks(cardinalities=(30, 12, 5), ranks=2, rows=1000)
    write_planted(folder / "data", planted)
    save_file({"shared.weight": torch.randn(60, 8)}, folder / "model.safetensors")
    return folder


@pytest.fixture
def call(monkeypatch, capsys, folder):
    def here(cases, runs, *, workers=None, observer=None):
        return run_cases(cases, runs, observer=observer)

    def run(*arguments):
        monkeypatch.setattr(grid_watching, "run_cases", here)
        monkeypatch.setattr(toy, "toy_experiment", brief)
        monkeypatch.setattr(sys, "argv", ["multiembed", "reproduce", *map(str, arguments)])
        code = main()
        return code, *capsys.readouterr()

    whole = toy.toy_experiment

    def brief(*, dims, seeds):
        return whole(dims=dims, seeds=seeds, iterations=100)

    return run


DRAWN = ("figure5", "figure10")
"""Between them all kinds of panels: to draw every item takes most of a test's time."""


def draw_some(panels, folder, name):
    for panel in panels:
        if isinstance(panel, Lines):
            assert all(len(series.x) == len(series.y) > 0 for series in panel.series)
        elif isinstance(panel, Bars):
            assert all(len(values) == len(panel.names) for values in panel.groups.values())
        else:
            assert panel.values.ndim == 2
    return draw_panels(panels, folder, name) if name in DRAWN else []


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def everything(folder):
    """Where all items were made, and what was printed meanwhile."""
    return folder / "out"


def test_all_items_are_made_and_a_second_time_costs_no_run(call, folder, everything, monkeypatch):
    monkeypatch.setattr(report, "draw_panels", draw_some)
    asked = ["all", "--dataset", folder / "data", "--out", everything, *FLAGS]
    code, out, err = call(*asked, "--checkpoint", folder / "model.safetensors")

    assert code == 0, err
    made = [name for name in ITEMS if name not in ("table5", "table6")]
    for name in made:
        assert f"\n{name}: " in "\n" + out
        assert list(everything.glob(f"{name}_*.csv")), name
        if name in DRAWN:
            assert (everything / f"{name}.png").read_bytes().startswith(b"\x89PNG")
            ElementTree.parse(everything / f"{name}.svg")
    page = (everything / "index.html").read_text()
    assert all(f'src="{name}.svg"' in page for name in made if name != "table4")
    assert all(len(line) <= 80 for line in out.splitlines() if "index.html" not in line)
    _numbers_are_those_of_the_runs(everything)

    monkeypatch.setattr("multiembed.experiments.grid.running.train", None)
    code, again, err = call("table1", *asked[1:])
    assert code == 0, err
    assert "dcnv2 multi 2x" in again
    assert err.startswith("18 of 18 runs are there\n")
    _means_over_architectures_are_those_of_the_table(everything, " ".join(again.split()))


def _means_over_architectures_are_those_of_the_table(everything, said):
    table = {
        (row["architecture"], row["scaling"], row["size"]): row
        for row in rows(everything / "table1_quality.csv")
    }
    names = sorted({architecture for architecture, _, _ in table})
    ways = [(("single", "2"), base := ("single", "1")), (("multi", "2"), base)]
    ways.append((("multi", "2"), ("single", "2")))
    found = rows(everything / "table1_averages.csv")
    for row, (one, other) in zip(found, ways, strict=True):
        assert (row["model"], row["architectures"]) == (" ".join(one) + "x", "6")
        assert row["beside"] == ("the base" if other == base else "single 2x")
        for measure in ("test_auc", "normalized_information_abundance"):
            ours, theirs = ([float(table[n, *way][measure]) for n in names] for way in (one, other))
            expected = stats.ttest_rel(ours, theirs)
            assert float(row[measure]) == pytest.approx(np.mean(ours) - np.mean(theirs))
            low, high = expected.confidence_interval()
            assert float(row[f"{measure}_low"]) == pytest.approx(low)
            assert float(row[f"{measure}_high"]) == pytest.approx(high)
        auc = [float(row[f"test_auc{end}"]) for end in ("", "_low", "_high")]
        assert "{:+.5f} ({:+.5f}, {:+.5f})".format(*auc) in said


def _numbers_are_those_of_the_runs(everything):
    """Each figure's data, from what lies in the run directories."""
    runs = {row["run"]: row for row in rows(everything / "results.csv")}
    table1 = {
        (row["architecture"], row["size"], row["scaling"]): row
        for row in rows(everything / "table1_quality.csv")
    }
    assert len(table1) == 6 * 3
    printed = table1["dcnv2", "1", "single"]
    assert float(printed["published_auc"]) == 0.78786  # three fields are nearer to Avazu's
    assert printed["test_auc"] in {
        row["test_auc"] for name, row in runs.items() if name.startswith("dcnv2-10x1-seed0")
    }
    assert table1["nfwfm", "2", "multi"]["dim"] == "50"
    table2 = rows(everything / "table2_abundance.csv")
    assert {(row["share"], row["dim"], row["sets"]) for row in table2} == {
        (share, dim, sets)
        for share in ("0.1", "1.0")
        for dim, sets in (("10", "1"), ("20", "1"), ("10", "2"))
    }
    assert {row["published_abundance"] for row in table2 if row["dim"] == "20"} == {"5.73", "5.7"}
    table3 = rows(everything / "table3_quality.csv")
    assert {row["variant"] for row in table3} == {"standard", "more_cross_layers", "deeper_mlp"}
    spectra = rows(everything / "figure1_spectra.csv")
    assert {row["normalized_singular_value"] for row in spectra if row["place"] == "1"} == {"1.0"}
    fields = rows(everything / "figure2_fields.csv")
    assert [row["cardinality"] for row in fields] == ["5", "12", "30"]
    assert len(rows(everything / "figure3_pairs.csv")) == 9
    assert len(rows(everything / "figure9_pairs.csv")) == 18
    ffm = [float(row["abundance"]) for row in rows(everything / "figure14_pairs.csv")]
    assert sum(map(np.isnan, ffm)) == 3, "a field has no view of itself"
    diversity = {row["model"] for row in rows(everything / "figure10_diversity.csv")}
    assert {"multi", "single, split", "random", "multi shared interaction"} <= diversity
    normalised = rows(everything / "figure15_abundance.csv")
    for row in normalised:
        expected = float(row["information_abundance"]) / float(row["dim"])
        assert float(row["abundance_over_dim"]) == pytest.approx(expected)
    theirs = [r for r in rows(everything / "figure11_spectra.csv") if "safetensors" in r["model"]]
    assert len(theirs) == 8
    statistics = {row["measure"]: row for row in rows(everything / "table4_statistics.csv")}
    assert statistics["features"]["measured"] == "47"
    assert statistics["instances"]["published"] == "40400000"


def test_one_item_runs_what_it_needs_and_no_more(call, folder, tmp_path):
    asked = ("figure3", "--dataset", folder / "data", "--out", tmp_path / "out", *FLAGS)
    code, out, err = call(*asked)

    assert code == 0, err
    assert len(list((tmp_path / "out" / "runs").glob("[!.]*"))) == 1
    assert "published r" in out
    assert "0.68" in out


def test_several_seeds_give_deviations_and_words(call, folder, tmp_path):
    asked = ("figure6", "--dataset", folder / "data", "--out", tmp_path / "out", *FLAGS)
    code, out, err = call(*asked, "--seeds", "2")

    assert code == 0, err
    assert len(list((tmp_path / "out" / "runs").glob("[!.]*"))) == 8
    assert "2 pairs" in out
    found = rows(tmp_path / "out" / "figure6_quality.csv")
    runs = rows(tmp_path / "out" / "results.csv")
    for row in found:
        place = (row["architecture"], row["size"])
        aucs = [float(r["test_auc"]) for r in runs if (r["architecture"], r["size"]) == place]
        assert float(row["test_auc"]) == pytest.approx(np.mean(aucs))
        assert float(row["test_auc_std"]) == pytest.approx(np.std(aucs, ddof=1))
    wide = sorted((tmp_path / "out" / "runs").glob("dnn-20x1-*"))
    assert len(wide) == 2
    of_runs = [{f.name: f.information_abundance for f in diagnose(run).fields} for run in wide]
    for row in rows(tmp_path / "out" / "figure6_fields.csv"):
        if row["model"] == "dnn":
            own = [run[row["field"]] for run in of_runs]
            assert float(row["information_abundance"]) == pytest.approx(np.mean(own))
            assert float(row["information_abundance_std"]) == pytest.approx(np.std(own, ddof=1))
    said = " ".join(out.split())
    assert re.search(r"(dcnv2 and dnn differ|Dcnv2 is \w+ dnn) \(abundance over a random", said)


def test_correlations_and_diversity_are_those_of_all_runs_and_compared_run_by_run(
    call, folder, tmp_path
):
    asked = ("--dataset", folder / "data", "--out", tmp_path / "out", *FLAGS, "--seeds", "2")
    code, out, err = call("figure9", *asked)

    assert code == 0, err
    found = rows(tmp_path / "out" / "figure9_correlations.csv")
    assert [(row["model"], row["seed"]) for row in found] == [
        (name, seed) for name in ("single", "multi") for seed in ("0", "1")
    ]
    pairs = rows(tmp_path / "out" / "figure9_pairs.csv")
    run = next((tmp_path / "out" / "runs").glob("dcnv2-20x1-seed0-*"))
    own = {field.name: field.information_abundance for field in diagnose(run).fields}
    sums = [
        sum(float(row["abundance"]) for row in pairs if (row["model"], row["target"]) == pair)
        for pair in (("single", name) for name in own)
    ]
    by_hand = np.corrcoef(list(own.values()), sums)[0, 1]
    assert float(found[0]["pearson"]) == pytest.approx(by_hand)
    single, multi = ([float(row["pearson"]) for row in part] for part in (found[:2], found[2:]))
    assert f"r {np.mean(multi) - np.mean(single):+.5f}" in " ".join(out.split())

    code, out, err = call("figure10", *asked)

    assert code == 0, err
    words = " ".join(out.split())
    assert "multi shared interaction and multi differ (diversity" in words or (
        "Multi shared interaction is" in words
    )
    by_model = Counter(row["model"] for row in rows(tmp_path / "out" / "figure10_diversity.csv"))
    assert by_model["multi"] == by_model["single, split"] == 2
    assert by_model["random"] == 1


def test_one_more_item_is_one_entry(call, folder, tmp_path):
    dummy = Item("A dummy", no_runs, lambda _: Analysis({"numbers": [{"one": 1}]}, [], []))
    asked = ("--dataset", folder / "data", "--out", tmp_path / "out")

    with ITEMS.also("figure99", dummy):
        code, out, err = call("figure99", *asked)
        _, _, listed = call("figure98", *asked)

    assert code == 0, err
    assert "figure99: A dummy" in out
    assert rows(tmp_path / "out" / "figure99_numbers.csv") == [{"one": "1"}]
    assert "figure99" in listed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["figure18"], "item must be one of .*; did you mean 'figure"),
        (["figure7"], "figure7, a drawing"),
        (["figure11"], "figure11 must have --checkpoint"),
        (["table1", "--sizes", "0"], r"sizes\[0\] must be at least 1"),
        (["table1", "--shares", "2"], r"shares\[0\] must be at most 1"),
        (["table1", "--set", "training.lr=1"], "training.lr"),
        (["table1", "--protocol", "theirs"], "theirs"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_run(call, folder, tmp_path, arguments, said):
    asked = ("--dataset", folder / "data", "--out", tmp_path / "out")
    code, out, err = call(*arguments, *asked)

    assert code == 2
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert re.search(said, err), err
    assert not (tmp_path / "out").exists()


def scope(folder, **changes):
    data = open_dataset(folder / "data")
    return Scope(data, folder / "scope", seeds=1, settings=SETTINGS, **changes)


def test_table_1_is_six_architectures_five_sizes_both_ways(folder):
    cases = ITEMS["table1"].plan(scope(folder))

    assert len({case.name for case in cases}) == 6 * 9
    shapes = {
        (c.labels.architecture, c.labels.size, c.labels.scaling): c.config.model.shape()
        for c in cases
    }
    assert shapes["ipnn", 10, "single"] == (100, 1)
    assert shapes["nfwfm", 10, "multi"] == (50, 10)


def test_the_reference_protocol_runs_what_the_code_runs(folder):
    ours = ITEMS["table1"].plan(scope(folder))
    theirs = ITEMS["table1"].plan(scope(folder, reference=True))

    assert all(case.config.training.shuffle for case in ours)
    assert not any(case.config.training.shuffle for case in theirs)
    ipnn = [case for case in theirs if case.labels.architecture == "ipnn"]
    singles = [case for case in ipnn if case.labels.scaling == "single"]
    assert {case.labels.size for case in singles} == {1, 2, 3, 4, 10}
    assert len({case.name for case in singles}) == 1, "whatever the size, it is one model"
    for case in ipnn:
        multi = case.labels.scaling == "multi"
        assert case.config.model.options["include_embeddings"] != multi


def test_folds_repeat_every_model_and_test_every_row_once(folder):
    for name in ("table2", "table3"):
        whole = ITEMS[name].plan(scope(folder))
        dealt = ITEMS[name].plan(scope(folder, folds=3))

        assert len({case.name for case in dealt}) == 3 * len({case.name for case in whole})
        assert {case.labels.fold for case in dealt} == {0, 1, 2}
    tested = {case.dataset: open_dataset(case.dataset).schema.splits["test"] for case in dealt}
    assert sum(split.rows for split in tested.values()) == 1000


def test_items_share_runs(folder):
    table1 = {case.name for case in ITEMS["table1"].plan(scope(folder))}

    for name in ("figure1", "figure6", "figure8", "figure9", "figure12"):
        assert {case.name for case in ITEMS[name].plan(scope(folder))} <= table1


def test_published_numbers_are_found_by_place():
    assert published_auc("avazu", "dcnv2", 10, "multi") == (0.78942, 0.00024)
    assert published_auc("criteo", "ipnn", 1, "single") == (0.81272, 0.00003)
    assert published_auc("criteo", "dcnv2", 5, "single") is None
    assert published_auc("criteo", "autoint", 1, "single") is None
