"""Checkpoints over time: what was planted is found where it was planted, by field and by row."""

import html
import json

import numpy as np
import polars as pl
import pytest
import torch
from scipy.linalg import orthogonal_procrustes, subspace_angles

import multiembed as me
from multiembed.__main__ import main
from multiembed.spectra.subspaces import SideBySide
from multiembed.spectra.summary import Summary

ROWS, COLUMNS = 300, 12


def rotated(patterns, rng, *, noise=0.2):
    """A table of these row patterns as a new training leaves it: turned, scaled, with noise."""
    width = patterns.shape[1]
    turn = np.linalg.qr(rng.standard_normal((COLUMNS, COLUMNS)))[0][:width]
    table = patterns @ turn + noise * rng.standard_normal((len(patterns), COLUMNS))
    return (table * rng.uniform(0.5, 2) + rng.standard_normal(COLUMNS)).astype(np.float32)


def months(count, *, cut=None, seed=0, fields=("site", "hour", "shop"), order=None, noise=0.2):
    """Six patterns a field; from `cut` on, `site` has lost two of them and gained one."""
    rng = np.random.default_rng(seed)
    patterns = {name: rng.standard_normal((ROWS, 8)) for name in fields}
    kept = {name: np.arange(6) for name in fields}
    changed = kept | {"site": np.array([0, 1, 2, 3, 6])}
    return [
        {
            name: rotated(
                of[:, (changed if cut is not None and at >= cut else kept)[name]], rng, noise=noise
            )
            for name, of in patterns.items()
        }
        for at in (range(count) if order is None else order)
    ]


@pytest.mark.parametrize(("count", "cut"), [(12, 7), (12, 3), (9, 5), (24, 20), (6, 3), (5, 2)])
def test_a_planted_shift_is_found_at_its_cut_and_in_its_field(count, cut):
    found = me.diagnose_over_time(months(count, cut=cut, noise=0.1))

    fields = {of.name: of for of in found.fields}
    assert found.alarm and found.null == ("order" if count >= 9 else "normal")
    assert [name for name, of in fields.items() if of.alarm] == ["site"]
    assert fields["site"].largest == cut - 1
    shift = fields["site"].shift
    assert (shift.before, shift.after, shift.kept) == (6, 5, 4)
    assert (len(shift.lost), len(shift.gained)) == (2, 1)
    assert f"A shift from {cut} to {cut + 1}" in found.headline and "site" in found.headline


@pytest.mark.parametrize("count", [3, 5, 9, 12])
def test_months_that_only_differ_by_noise_raise_no_alarm(count):
    quiet = [me.diagnose_over_time(months(count, seed=seed)).alarm for seed in range(8)]

    assert sum(quiet) <= 1


def test_months_that_drift_evenly_raise_no_alarm():
    rng = np.random.default_rng(3)
    steps = rng.standard_normal((12, ROWS, 6)).cumsum(axis=0) + 3 * rng.standard_normal((ROWS, 6))

    found = me.diagnose_over_time([{"site": rotated(step, rng, noise=0.05)} for step in steps])

    assert not found.alarm and "No step stands out" in found.headline


def test_a_rotated_scaled_and_shifted_table_is_the_same():
    rng = np.random.default_rng(0)
    table = rng.standard_normal((ROWS, COLUMNS))
    turn = np.linalg.qr(rng.standard_normal((COLUMNS, COLUMNS)))[0]

    turn = me.diagnose_over_time([{"a": table}, {"a": 3 * table @ turn + 5}]).fields[0].whole.turn

    assert (turn.kept, turn.lost, turn.gained) == (turn.before, 0, 0)
    assert (turn.cka, turn.overlap) == (pytest.approx(1), pytest.approx(1))
    assert turn.mean_angle < 1e-4
    assert max(turn.procrustes, turn.spectral_distance) < 1e-12


def by_the_book(a, b):
    """CKA, angles, Procrustes and spectra from the tables themselves, by NumPy and SciPy."""
    a, b = a - a.mean(0), b - b.mean(0)
    left = [np.linalg.svd(x, full_matrices=False)[:2] for x in (a, b)]
    leads = [int((np.cumsum(s**2) < 0.99 * (s**2).sum()).sum()) + 1 for _, s in left]
    bases = [u[:, :k] for (u, _), k in zip(left, leads, strict=True)]
    k = [x @ x.T for x in (a, b)]
    turn, scale = orthogonal_procrustes(a, b)
    onto = scale / (a**2).sum() * a @ turn
    shares = [np.pad(s / np.linalg.norm(s), (0, 20 - len(s))) for _, s in left]
    return {
        "before": leads[0],
        "after": leads[1],
        "angles": np.degrees(np.sort(subspace_angles(*bases))),
        "cka": (k[0] * k[1]).sum() / np.linalg.norm(k[0]) / np.linalg.norm(k[1]),
        "procrustes": ((onto - b) ** 2).sum() / (b**2).sum(),
        "gained_energy": 1 - ((bases[0].T @ b) ** 2).sum() / (b**2).sum(),
        "lost_energy": 1 - ((bases[1].T @ a) ** 2).sum() / (a**2).sum(),
        "spectral_distance": ((shares[0] - shares[1]) ** 2).sum() / 2,
    }


def test_numbers_are_those_of_the_whole_tables():
    rng = np.random.default_rng(5)
    a = rng.standard_normal((80, 9)) * np.geomspace(1, 0.05, 9) + 2
    b = a @ rng.standard_normal((9, 9)) + 0.1 * rng.standard_normal((80, 9))
    joint = Summary.of(np.hstack([a, b]))

    turn = SideBySide(joint, [9, 9]).turn(0, 1)

    for name, expected in by_the_book(a, b).items():
        np.testing.assert_allclose(
            getattr(turn, name), expected, rtol=1e-6, atol=1e-6, err_msg=name
        )
    assert turn.kept == int((np.array(turn.angles) < 45).sum())
    assert (turn.kept + turn.lost, turn.kept + turn.gained) == (turn.before, turn.after)


def test_tables_of_zeros_and_of_other_widths_can_be_compared():
    rng = np.random.default_rng(0)
    wide, flat = rng.standard_normal((40, 7)), np.zeros((40, 3))

    both, one, wider = (
        me.diagnose_over_time([{"a": first}, {"a": second}]).fields[0].whole.turn
        for first, second in [(flat, flat), (wide, flat), (wide[:, :4], wide)]
    )

    assert (both.cka, both.procrustes, both.before, both.after) == (1, 0, 0, 0)
    assert (one.cka, one.lost, one.after) == (0, one.before, 0)
    assert (wider.kept, wider.lost, wider.gained) == (4, 0, 3)


def test_a_direction_is_told_by_the_rows_it_lies_in():
    """From the seventh month on, four rows stand apart together: with their keys, if there are."""
    rng = np.random.default_rng(1)
    common = rng.standard_normal((ROWS, 5))
    apart = np.zeros((ROWS, 1))
    apart[[7, 30, 31, 200]] = 12
    tables = [
        {"site": rotated(common if at < 6 else np.hstack([common, apart]), rng, noise=0.05)}
        for at in range(12)
    ]

    for keys, names in (
        (None, {"7", "30", "31", "200"}),
        ("row {}", {"row 7", "row 30", "row 31"}),
    ):
        known = keys and [{"site": [keys.format(row) for row in range(ROWS)]}] * 12
        [field] = me.diagnose_over_time(tables, keys=known).fields
        [gained] = field.shift.gained
        assert (field.largest, field.shift.lost) == (5, ())
        assert names <= {*gained.rows} and gained.share > 0.9


def test_rows_are_matched_by_key_in_any_order_and_new_ones_are_named():
    rng = np.random.default_rng(0)
    table = rng.standard_normal((6, 3))
    june = ["rome", "oslo", "bern", None, "lima"]
    july = ["kyiv", None, "lima", "oslo", "rome"]
    places = [june.index(of) if of in june else 5 for of in july]

    found = me.diagnose_over_time(
        {"june": {"city": table[:5]}, "july": {"city": table[places]}},
        keys=[{"city": june}, {"city": pl.Series(july)}],
    )

    [field] = found.fields
    [step] = field.steps
    assert (field.matched_by, field.rows) == ("value", 4)
    assert (step.new.rows, step.gone.rows) == (("kyiv",), ("bern",))
    assert step.turn.cka == pytest.approx(1)


def test_rows_without_keys_are_matched_by_number_and_growth_is_told():
    rng = np.random.default_rng(0)
    table = rng.standard_normal((50, 4))
    found = me.diagnose_over_time([{"a": table[:40]}, {"a": table[:41]}, {"a": table}])

    [field] = found.fields
    assert (field.matched_by, field.rows) == ("number", 40)
    assert [step.new.rows for step in field.steps] == [("40",), ("41-49",)]
    assert field.whole.new.count == 10
    assert all(step.turn.cka == pytest.approx(1) for step in field.steps)


def test_fields_that_come_and_go_are_set_apart():
    table = np.random.default_rng(0).standard_normal((30, 4))

    found = me.diagnose_over_time([{"a": table, "old": table}, {"new": table, "a": table}])

    assert [of.name for of in found.fields] == ["a"]
    assert found.apart == ("new", "old")


COMMON = ["rome", "oslo", "lima", "nice", "cork", "bonn"]


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    """Trainings on the logs of two months: ids follow counts, which turned around."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    for month, cities in (("june", [*COMMON, "bern"]), ("july", ["kyiv", *reversed(COMMON)])):
        shares = np.arange(1, 8) / 28
        city = rng.choice(cities, 900, p=shares)
        rows = pl.DataFrame({"label": rng.integers(0, 2, 900), "city": city, "day": city})
        rows.write_csv(folder / f"{month}.csv")
        options = me.PrepareOptions(format="table", label="label", min_count=1)
        me.prepare(folder / f"{month}.csv", folder / f"{month}_data", options)
        model = me.ModelConfig(architecture="dnn", dim=3, options={"hidden": [4]})
        config = me.RunConfig(model=model, training=me.TrainingConfig(max_epochs=1, threads=1))
        me.train(config, dataset=folder / f"{month}_data", run=folder / month)
    return [folder / "june", folder / "july"]


def test_runs_are_matched_by_their_vocabularies(two_runs):
    found = me.diagnose_over_time(two_runs)

    city = next(of for of in found.fields if of.name == "city")
    assert (found.sources, city.matched_by) == (("june", "july"), "value")
    assert (city.steps[0].new.rows, city.steps[0].gone.rows) == (("kyiv",), ("bern",))
    assert city.rows == 6  # what both trained: not *other*, which no row had
    tables = []
    for run in two_runs:
        vocabulary = pl.read_parquet(run / "vocabulary" / "city.parquet").select("value", "id")
        ids = dict(vocabulary.iter_rows())
        weights = me.load_run(run).model.embedding.by_field()[0].double().numpy()
        tables.append(weights[[ids[name] for name in COMMON]])
    assert city.whole.turn.cka == pytest.approx(by_the_book(*tables)["cka"], abs=1e-6)


def call(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["multiembed", "diagnose", *map(str, arguments)])
    code = main()
    return code, *capsys.readouterr()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("months")
    paths = []
    for at, tables in enumerate(months(12, cut=6, noise=0.1), start=1):
        paths.append(folder / f"month_{at:02}.pt")
        tensors = {f"embedding.{name}.weight": torch.from_numpy(of) for name, of in tables.items()}
        torch.save(tensors, paths[-1])
    return paths


def test_the_command_line_compares_files_in_the_order_given(monkeypatch, capsys, files, tmp_path):
    page, record = tmp_path / "page.html", tmp_path / "drift.json"

    code, out, err = call(monkeypatch, capsys, *files, "--html", page, "--json", record)

    assert (code, err) == (0, "")
    assert "A shift from month_06.pt to month_07.pt (p " in out.replace("\n", " ")
    assert max(map(len, out.splitlines())) <= 80
    found = json.loads(record.read_text())
    assert found["alarm"] and found["format"] == 1 and found["sources"][0] == "month_01.pt"
    assert [of["name"] for of in found["fields"] if of["alarm"]] == ["embedding.site"]
    text = page.read_text()
    assert html.escape(found["headline"]) in text and "<script>" not in text and len(text) < 100_000


def test_two_checkpoints_are_described_and_not_judged(monkeypatch, capsys, files):
    code, out, _ = call(monkeypatch, capsys, files[0], files[-1], "--json", "-")

    found = json.loads(out)
    assert (code, found["alarm"], found["null"]) == (0, False, "none")
    assert "not whether that is unusual" in found["headline"]
    assert found["fields"][0]["whole"]["turn"]["cka"] < 0.9


def test_mistakes_are_one_line(monkeypatch, capsys, files, tmp_path):
    other = tmp_path / "other.npy"
    np.save(other, np.eye(5))
    bad = tmp_path / "bad.pt"
    torch.save({"embedding.site.weight": torch.full((9, 4), torch.nan)}, bad)

    for arguments, said in [
        ((files[0], "--split-sets", 2, files[1]), "--split-sets must be said of one model"),
        ((files[0], "--not", "b", files[1]), "--not must be said of one model"),
        ((files[0], tmp_path / "none.pt"), "must be a file or a directory, got nothing there"),
        ((files[0], other), "checkpoints must have a field in common, got none"),
        ((files[0], bad), "of bad.pt must hold finite numbers, got nan in row 0, column 0"),
    ]:
        code, _, err = call(monkeypatch, capsys, *arguments)
        assert code == 2 and said in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ([{"a": [1, 2]}] * 2, "keys of table 'a' of 1 must be one per row, 3, got 2"),
        ([{"a": [1, 2, 2]}] * 2, "keys of table 'a' of 1 must differ, got '2' twice"),
        ([{"a": [1, 2, 3]}], "keys must be one mapping per checkpoint, 2, got 1"),
        ([{"a": [1, 2, 3]}, {"a": [4, 5, 6]}], "field 'a' must have two rows or more"),
    ],
)
def test_keys_must_fit(keys, said):
    with pytest.raises(me.DataError, match=said):
        me.diagnose_over_time([{"a": np.eye(3)}] * 2, keys=keys)


def test_one_checkpoint_is_no_time():
    with pytest.raises(me.DataError, match="must be two or more, got 1"):
        me.diagnose_over_time([{"a": np.eye(3)}])


def test_checkpoints_of_one_name_are_told_apart(tmp_path):
    for folder in ("june", "july"):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "site.npy", np.random.default_rng(0).random((20, 3)))

    found = me.diagnose_over_time([tmp_path / of / "site.npy" for of in ("june", "july")])

    assert found.sources[0].endswith("june/site.npy") and found.sources[0] != found.sources[1]


def test_the_page_needs_no_scripts_and_fits_a_telephone(open_page, files):
    page = open_page(me.diagnose_over_time(files).to_html(), width=390)

    assert page.locator("h2").inner_text().startswith("A shift from month_06.pt")
    assert page.locator("tr.alarm th").inner_text() == "embedding.site"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
