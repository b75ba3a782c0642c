"""One self-contained HTML page of one diagnosis, or of several side by side; works offline."""

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from statistics import fmean
from typing import Any

from markupsafe import Markup

from multiembed.diagnosis import page_charts, pair_charts
from multiembed.diagnosis.field_rows import field_columns, field_rows
from multiembed.diagnosis.measure_words import APART, judged_rows, list_heading, written
from multiembed.diagnosis.page_charts import Found
from multiembed.diagnosis.verdict import VERDICTS, rules_in_words
from multiembed.report.shell import TEMPLATES, html_page, html_table
from multiembed.report.wording import short, size_in_bytes
from multiembed.runs.metrics import SPLIT_NAMES
from multiembed.spectra.catalogue import MEASURES

_TERMS = (
    (
        "information abundance",
        "Sum of the singular values over the largest (Guo et al., ICML 2024): 1 where a table is "
        "a single direction, the number of columns where all count alike. It also falls when all "
        "rows share an offset, and in small tables, which is why it is shown less the mean and "
        "beside a random table.",
    ),
    (
        "random table",
        "The mean abundance of a table of independent normal numbers of the same shape. A "
        "percentage is a field's abundance over that.",
    ),
    (
        "which rows",
        "Verdicts rest on the rows met in training where their counts are known, on all rows "
        "elsewhere.",
    ),
)
"""What a reader of verdicts must know beside their rules."""


def page(found: Found, *, title: str = "Embedding diagnosis") -> str:
    """Return the page of one diagnosis, given as `Diagnosis.to_dict` writes it."""
    return _page(title, {found["source"]: found}, [])


def comparison_page(
    diagnoses: Mapping[str, Found],
    rows: Sequence[Mapping[str, Any]],
    *,
    title: str = "Models side by side",
) -> str:
    """Return the page of several diagnoses, side by side and one by one.

    Args:
        diagnoses: By the name a reader should see, each as `Diagnosis.to_dict` writes it.
        rows: The result table, one mapping of column to value per model; may be empty.
        title: The page's heading.
    """
    return _page(title, diagnoses, rows)


def _page(title: str, diagnoses: Mapping[str, Found], rows: Sequence[Mapping[str, Any]]) -> str:
    named = [{"name": name, **found} for name, found in diagnoses.items()]
    several = len(named) > 1
    models = [_model(found, f"m{at}-" if several else "") for at, found in enumerate(named)]
    compared = _compared(named, rows) if several else None
    body = TEMPLATES.get_template("diagnosis.html").render(
        title=title,
        models=models,
        compared=compared,
        links=_comparison_links(compared) if compared else _links(models[0]),
        verdicts=VERDICTS,
        rules=[*_TERMS, *rules_in_words()],
        version=version("multiembed"),
    )
    return html_page(title=title, body=body)


def _model(found: Found, prefix: str) -> dict[str, Any]:
    """Return all that the template prints of one model; `prefix` keeps its anchors apart."""
    verdict = found["summary"]["verdict"]
    cards = {name: of for name, of in MEASURES.items() if of.card is not None}
    return {
        "id": prefix,
        "name": found["name"],
        "source": found["source"],
        "described": _described(found),
        "origin": _origin(found["origin"]),
        "files": [_file(file) for file in found["origin"]["files"]],
        "judged": judged_rows(
            [field["rows_trained"] for field in found["fields"]], found.get("counts_from")
        ),
        "headline": verdict["headline"],
        "counts": verdict["counts"],
        "findings": verdict["findings"],
        "cards": [
            (written(of, _mean(found["fields"], name)), of.card) for name, of in cards.items()
        ],
        "advice": [text.split(": ", 1) for text in verdict["advice"]],
        "tables": [_table(name, found[name]) for name in _held(found, "verdict")],
        "spectra": Markup(page_charts.spectra(found["fields"])),
        "abundance": Markup(page_charts.abundance([found])),
        "interaction": _interaction(found),
        "sets": _sets(found),
        "calibration": _calibration(found["reliability"]),
        "lists": [_list(name, found[name]) for name in _held(found, "reason")],
        "method": _method(found["fields"]),
    }


def _mean(fields: Sequence[Found], measure: str) -> float:
    """Average over fields, of each the rows that its verdict rests on."""
    return fmean(field["verdict"]["view"][measure] for field in fields)


def _described(found: Found) -> str:
    summary = found["summary"]
    count = summary["fields"]
    width = "different widths" if summary["dim"] is None else f"{summary['dim']} columns"
    sets = f"{summary['sets']} sets of " if summary["sets"] > 1 else ""
    return (
        f"{found['layout']} · {count:,} {'table' if count == 1 else 'fields'} · "
        f"{short(summary['rows'])} rows · {short(summary['parameters'])} numbers · {sets}{width}"
    )


def _origin(origin: Found) -> list[tuple[str, str]]:
    date = origin["date"].replace("T", " ").replace("+00:00", " UTC")
    said = [("on", f"{date}, by multiembed {origin['version']}")]
    return said + ([] if origin["command"] is None else [("command", origin["command"])])


def _file(file: Found) -> dict[str, str]:
    known = file["sha256"]
    return {
        "name": file["name"],
        "size": size_in_bytes(file["bytes"]),
        "hash": "not hashed" if known is None else f"SHA-256 {known}",
    }


def _held(found: Found, key: str) -> list[str]:
    """Return the names of a diagnosis's lists of records that have a name and this key each."""
    return [
        name
        for name, items in found.items()
        if isinstance(items, list) and items and {"name", key} <= set(items[0])
    ]


def _table(name: str, fields: Sequence[Found]) -> dict[str, Any]:
    """Return a table of fields, or of matrices beside them."""
    return {
        "key": name,
        "heading": list_heading(name),
        "note": "" if name == "fields" else APART,
        "columns": field_columns(fields),
        "rows": field_rows(fields),
    }


def _list(name: str, items: Sequence[Found]) -> dict[str, Any]:
    groups: dict[str, list[str]] = {}
    for item in items:
        shape = " × ".join(map(str, item["shape"])) or "scalar"
        groups.setdefault(item["reason"], []).append(f"{item['name']} ({shape})")
    return {
        "key": name,
        "heading": list_heading(name),
        "count": f"{len(items):,}",
        "groups": [(f"{len(of):,}: {why}", ", ".join(of)) for why, of in groups.items()],
    }


def _interaction(found: Found) -> dict[str, Any] | None:
    interaction = found["subembeddings"]
    if interaction is None:
        return None
    pulls = None if interaction["pull"] is None else Markup(pair_charts.pulls(interaction))
    return {
        "heatmap": Markup(pair_charts.interaction_heatmap(found)),
        "correlation": _correlation(interaction["layers"][0]["co_influence"]),
        "influence": Markup(pair_charts.influence([found])),
        "pulls": pulls,
        "most": pair_charts.MOST_PULLS,
    }


def _correlation(found: Found) -> str:
    pearson, spearman, apart, ranks = (
        "undefined" if found[key] is None else f"{found[key]:.2f}"
        for key in ("pearson", "spearman", "pearson_off_diagonal", "spearman_off_diagonal")
    )
    return (
        "Over fields j, the abundance of table j and the sum over i of what is carried into j "
        f"correlate with r = {pearson} (rank correlation {spearman}; without i = j {apart} and "
        f"{ranks}). The paper reports 0.68 for one set and 0.52 for several."
    )


_SET_MEASURES = {
    "diversity": "1 less the mean cosine of the principal angles, as in the paper",
    "rank_aware_diversity": "the same over the directions in use",
    "weighted_overlap": "cosines weighted by singular values; 1 if sets are equal",
    "cka": "linear similarity; 1 if sets are equal",
}


def _sets(found: Found) -> dict[str, Any] | None:
    sets = found["diversity"]
    if sets is None:
        return None

    def three(value: float | None) -> str:
        return "–" if value is None else f"{value:.3f}"

    rows = [
        [name.replace("_", " "), three(sets["mean"][name]), three(sets["random_mean"][name]), words]
        for name, words in _SET_MEASURES.items()
    ]
    split = "The columns of the one set, split in order for comparison. " if sets["split"] else ""
    return {
        "words": f"{split}Sets that point the same way add nothing to each other. Mean diversity "
        f"is {three(sets['mean']['diversity'])}; random tables of the same shapes have "
        f"{three(sets['random_mean']['diversity'])}.",
        "by_field": Markup(pair_charts.set_diversity_chart(found)),
        "by_pair": Markup(pair_charts.set_heatmap(sets)),
        "table": Markup(html_table(("measure", "this model", "random tables", ""), rows)),
    }


def _calibration(reliability: Found | None) -> dict[str, Any] | None:
    if reliability is None:
        return None
    bins = reliability["bins"]
    rows = round(sum(at["rows"] for at in bins) / len(bins))
    return {
        "finding": reliability["finding"],
        "chart": Markup(pair_charts.calibration(bins)),
        "caption": f"Each mark is a group of rows of the {SPLIT_NAMES[reliability['split']]} "
        f"split that the model gives similar probabilities; a group has {rows:,} rows on average, "
        "and the same as the others but for ties. On the dashed line, what was predicted is what "
        "happened; below it the model promises too much, above it too little. The expected "
        f"calibration error, {reliability['expected_calibration_error']:.3g}, is the mean "
        "distance from that line. A calibration kept with the run is not applied here.",
    }


def _method(fields: Sequence[Found]) -> str:
    routes = Counter(field["route"] for field in fields)
    bound = max(field["error_bound"] for field in fields)
    return (
        f"Spectra: {routes['gram']:,} tables by their Gram matrix, {routes['qr']:,} by QR, in "
        f"float64; no singular value is off by more than {bound:.1g} of its table's largest."
    )


def _compared(models: Sequence[Found], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    crossed = [model for model in models if model["subembeddings"] is not None]
    drawn = pair_charts.shared_heatmaps(crossed) if crossed else []
    counts = [model["summary"]["verdict"]["counts"] for model in models]
    present = [label for label in VERDICTS if any(label in of for of in counts)]
    return {
        "table": Markup(_results(rows)),
        "counts": {label: " / ".join(str(of.get(label, 0)) for of in counts) for label in present},
        "abundance": Markup(page_charts.abundance(models)),
        "spectra": Markup(page_charts.mean_spectra(models)),
        "heatmaps": [
            (model["name"], Markup(html), _correlation_alone(model))
            for model, html in zip(crossed, drawn, strict=True)
        ],
        "influence": Markup(pair_charts.influence(crossed)) if crossed else None,
    }


def _correlation_alone(model: Found) -> str:
    found = model["subembeddings"]["layers"][0]["co_influence"]["pearson"]
    said = "undefined" if found is None else f"{found:.2f}"
    return f"r = {said} between a field's abundance and what others leave in it."


def _results(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    headings = [key.replace("_", " ").replace("auc", "AUC") for key in rows[0]]
    return html_table(headings, [[_result(*item) for item in row.items()] for row in rows])


def _result(key: str, value: Any) -> str:  # noqa: ANN401
    if value is None or isinstance(value, str):
        return value or "–"
    if "auc" in key or "loss" in key:
        return f"{value:.5f}"
    if "normali" in key:
        return f"{value:.0%}"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _links(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the sections of a page of one model."""
    parts = {
        "interaction": "Who collapses whom",
        "sets": "Do the sets differ?",
        "calibration": "Calibration",
    }
    fixed = [
        *(("verdict", "Verdict"), *((of["key"], of["heading"]) for of in model["tables"])),
        *(("spectra", "Spectra"), ("abundance", "Abundance and cardinality")),
    ]
    there = [
        ("diversity" if key == "sets" else key, text) for key, text in parts.items() if model[key]
    ]
    lists = [(of["key"], of["heading"]) for of in model["lists"]]
    return [*fixed, *there, *lists, ("rules", "How to read this")]


def _comparison_links(compared: Mapping[str, Any]) -> list[tuple[str, str]]:
    crossed = [("compared-interaction", "What fields leave to each other")]
    return [
        *(("results", "Side by side"), ("compared-abundance", "Abundance by field")),
        ("compared-spectra", "Spectra"),
        *(crossed if compared["heatmaps"] else []),
        *(("one", "One model in full"), ("rules", "How to read this")),
    ]
