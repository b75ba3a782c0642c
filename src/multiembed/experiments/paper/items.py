"""All items of the paper by name."""

from multiembed.experiments.analysis.statistics import paired_difference, spread
from multiembed.experiments.grid.grid import Case
from multiembed.experiments.paper import interaction_figures as interaction
from multiembed.experiments.paper import quality_tables as quality
from multiembed.experiments.paper import spectrum_tables as tables
from multiembed.experiments.paper.published_numbers import nearest_dataset, published
from multiembed.experiments.paper.study import Analysis, Item, Lines, Scope, Series, Study
from multiembed.experiments.paper.toy import DIMS, LARGE, SMALL, toy_experiment


def _nothing(scope: Scope) -> list[Case]:
    """Need no run."""
    return []


def _analyse_table4(study: Study) -> Analysis:
    """Set the dataset's sizes beside those of the paper's."""
    schema = study.scope.dataset.schema
    near = nearest_dataset(len(schema.fields))
    printed = published()["table4"][near]
    measured = {
        "instances": sum(split.rows for split in schema.splits.values()),
        "fields": len(schema.fields),
        "features": sum(schema.cardinalities),
        "largest_field": max(schema.cardinalities),
        "smallest_field": min(schema.cardinalities),
    }
    rows = [
        {"measure": name, "published": printed[name], "measured": value}
        for name, value in measured.items()
    ]
    table = [
        {
            "measure": name.replace("_", " "),
            f"published ({near})": f"{printed[name]:,}",
            "measured": f"{value:,}",
        }
        for name, value in measured.items()
    ]
    return Analysis({"statistics": rows}, [table], [])


def _analyse_figure4(study: Study) -> Analysis:
    """Train the toy experiment, which needs no data."""
    sizes = study.scope.sizes
    dims = DIMS if sizes is None else tuple(10 * size for size in sizes)
    found = list(toy_experiment(dims=dims, seeds=study.scope.seeds))
    rows = [
        {"dim": c.dim, "cardinality": c.cardinality, "seed": c.seed, "iteration": i, "abundance": a}
        for c in found
        for i, a in zip(c.iterations, c.abundance, strict=True)
    ]
    table, findings, panels = [], [], []
    for dim in dims:
        last = {
            size: [c.abundance[-1] for c in found if (c.dim, c.cardinality) == (dim, size)]
            for size in (SMALL, LARGE)
        }
        small, large = spread(last[SMALL]), spread(last[LARGE])
        table.append(
            {"dim": str(dim), "D3 = 3": f"{small.mean:.2f}", "D3 = 100": f"{large.mean:.2f}"}
        )
        difference = paired_difference(last[SMALL], last[LARGE])
        words = difference.words("D3 = 3", "D3 = 100", measure="abundance")
        findings.append(f"K = {dim}: {words}.")
        panels.append(_toy_panel(dim, [c for c in rows if c["dim"] == dim and c["seed"] == 0]))
    return Analysis({"curves": rows}, [table], panels, findings)


def _toy_panel(dim: int, rows: list[dict[str, int | float]]) -> Lines:
    series = []
    for size in (SMALL, LARGE):
        own = [row for row in rows if row["cardinality"] == size]
        x, y = [float(row["iteration"]) for row in own], [float(row["abundance"]) for row in own]
        series.append(Series(f"D3 = {size}", x, y))
    return Lines(f"K = {dim}", "iteration", "information abundance of E1", series)


_TABLE_1 = Item("Test AUC of six architectures", quality.plan_table1, quality.analyse_table1)

ITEMS: dict[str, Item] = {
    "table1": _TABLE_1,
    "table2": Item("Abundance by width and data", tables.plan_table2, tables.analyse_table2),
    "table3": Item("Deeper instead of wider", quality.plan_table3, quality.analyse_table3),
    "table4": Item("Statistics of the data", _nothing, _analyse_table4),
    "table5": _TABLE_1,
    "table6": _TABLE_1,
    "table7": Item("AutoInt", quality.plan_table7, quality.analyse_table7),
    "figure1": Item("Models do not scale", tables.plan_figure1, tables.analyse_figure1),
    "figure2": Item("Learned beside random", tables.plan_enlarged, tables.analyse_figure2),
    "figure3": Item("Sub-embeddings", interaction.plan_base, interaction.analyse_figure3),
    "figure4": Item("The toy experiment", _nothing, _analyse_figure4),
    "figure5": Item("Regularised", interaction.plan_figure5, interaction.analyse_figure5),
    "figure6": Item("DNN beside DCNv2", quality.plan_figure6, interaction.analyse_figure6),
    "figure8": Item("Single beside multi", quality.plan_curves, tables.analyse_figure8),
    "figure9": Item(
        "Sub-embeddings of sets", interaction.plan_figure9, interaction.analyse_figure9
    ),
    "figure10": Item("Diversity", interaction.plan_figure10, interaction.analyse_figure10),
    "figure11": Item("A language model", tables.plan_enlarged, tables.analyse_figure11),
    "figure12": Item("Table 1 drawn, Criteo", quality.plan_table1, quality.analyse_figure12),
    "figure13": Item("Table 1 drawn, Avazu", quality.plan_table1, quality.analyse_figure13),
    "figure14": Item(
        "FFM's sub-embeddings", interaction.plan_figure14, interaction.analyse_figure14
    ),
    "figure15": Item("Normalised abundance", tables.plan_figure15, tables.analyse_figure15),
    "figure16": Item(
        "Regularised sub-embeddings", interaction.plan_figure16, interaction.analyse_figure16
    ),
    "figure17": Item(
        "Regularised and DNN sets", interaction.plan_figure17, interaction.analyse_figure17
    ),
}
"""By the name in the paper; Figure 7 is a drawing of the architecture, with nothing to measure."""
