"""Commands of many runs: `scale`, `tune`, `reproduce`, `demo`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from multiembed.base.errors import DataError
from multiembed.base.validation import checked
from multiembed.cli.console import (
    JsonOption,
    OutArgument,
    RayOption,
    SetOption,
    Watcher,
    WorkersOption,
    app,
    out,
    write,
)
from multiembed.cli.option_flags import takes_options
from multiembed.experiments.tune.tune_options import TuneOptions
from multiembed.runs.given_config import configured


@app.command("scale")
def scale_command(
    dataset: Annotated[Path, typer.Argument(help="An encoded dataset.")],
    out_: OutArgument,
    grid: Annotated[
        Path | None, typer.Option(help="TOML file of a grid; flags take precedence.")
    ] = None,
    architectures: Annotated[
        str | None, typer.Option(help="Names, by commas. Default: dcnv2.")
    ] = None,
    sizes: Annotated[
        str | None, typer.Option(help="Multiples of the base size. Default: 1,2,4,10.")
    ] = None,
    scaling: Annotated[
        str | None, typer.Option(help="single, multi or both. Default: single,multi.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Trainings of each. Default: 3.")] = None,
    shares: Annotated[
        str | None, typer.Option(help="Shares of the training rows, by commas. Default: 1.")
    ] = None,
    folds: Annotated[
        int | None, typer.Option(help="Deal all rows into so many parts and test each once.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="robust|paper",
            help="Says what is not given. Default: robust; what a grid's file leaves open is the "
            "paper's.",
        ),
    ] = None,
    set_: SetOption = None,
    workers: WorkersOption = 1,
    ray: RayOption = None,
) -> None:
    """Train a model at several sizes and say what scaling it brings; finished runs are kept."""
    from multiembed.cli.experiment_output import show_points
    from multiembed.cli.grid_watching import run_watched
    from multiembed.data.store.dataset import open_dataset
    from multiembed.experiments.grid.grid import asked_grid, expand
    from multiembed.experiments.grid.outcome import experiment_in, write_results

    lists = {"architectures": architectures, "sizes": sizes, "scaling": scaling, "shares": shares}
    single = {"seeds": seeds, "folds": folds, "recipe": recipe}
    given = {name: value for name, value in single.items() if value is not None}
    asked = asked_grid(grid, _parts(lists) | given, set_ or [])
    opened = open_dataset(dataset)
    cases = expand(asked, opened, out_ / "datasets")
    with experiment_in(out_):
        state = run_watched(cases, out_, workers=workers, ray=ray)
        write_results(out_, state)
        if not state.done:
            raise DataError(
                f"{out_}: all {len(state.failed)} runs failed: {state.failed[0].reason}"
            )
        show_points(state.done, next(iter(asked.variants), ""), out_)
    if state.failed:
        raise DataError(f"{len(state.failed)} of {len(cases)} runs failed: see {out_}/results.json")


def _parts(lists: Mapping[str, str | None]) -> dict[str, Any]:
    """Return what stands between commas, of those flags that were given."""
    given = {name: text for name, text in lists.items() if text is not None}
    return {name: [part.strip() for part in text.split(",")] for name, text in given.items()}


@app.command("tune")
@takes_options(TuneOptions)
def tune_command(
    dataset: Annotated[Path, typer.Argument(help="An encoded dataset.")],
    out_: OutArgument,
    trials: Annotated[
        int, typer.Option(min=1, max=100_000, help="In all, those of earlier calls included.")
    ] = 50,
    time_limit: Annotated[
        float | None, typer.Option(help="Seconds after which no trial begins.")
    ] = None,
    workers: WorkersOption = 1,
    ray: RayOption = None,
    json_: JsonOption = None,
    *,
    options: dict[str, object],
) -> None:
    """Vary a recipe's settings for the best on validation; killed trials go on in the next call."""
    from multiembed.experiments.tune.tuning import require_optuna, tune

    asked = checked(TuneOptions, options)
    require_optuna()
    from multiembed.cli.tune_output import TuneWatcher, on_ray, show_tuning
    from multiembed.experiments.tune.tuned import results

    with Watcher() as watcher:
        found = tune(
            dataset,
            out_,
            asked,
            trials=trials,
            time_limit=time_limit,
            workers=workers,
            observer=TuneWatcher(watcher),
            elsewhere=on_ray(ray),
        )
    if json_ is not None:
        write(json.dumps(results(found), indent=1), json_)
    if json_ != "-":
        show_tuning(found)


@app.command("reproduce")
def reproduce_command(
    item: Annotated[str, typer.Argument(help="table1 … table7, figure1 … figure17, or all.")],
    dataset: Annotated[Path, typer.Option(help="An encoded dataset.")],
    out_: Annotated[Path, typer.Option("--out", help="Directory to write to.")] = Path("paper"),
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Trainings of each model.")] = 3,
    sizes: Annotated[
        str | None, typer.Option(help="Multiples of the base, by commas, in place of the paper's.")
    ] = None,
    shares: Annotated[
        str | None, typer.Option(help="Shares of the rows, by commas, in place of Table 2's.")
    ] = None,
    set_: SetOption = None,
    protocol: Annotated[
        Literal["paper", "reference"],
        typer.Option(help="What the paper says, or what its code runs: no shuffle, IPNN at 10."),
    ] = "paper",
    checkpoint: Annotated[
        Path | None, typer.Option(help="A local language model's, for figure11.")
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(min=3, help="Deal all rows into so many parts and test each once."),
    ] = None,
    workers: WorkersOption = 1,
    ray: RayOption = None,
) -> None:
    """Make a table or a figure of the paper, published beside measured; runs are shared."""
    from multiembed.cli.experiment_output import show_items
    from multiembed.cli.grid_watching import run_watched
    from multiembed.data.store.dataset import open_dataset
    from multiembed.experiments.grid.grid import Grid, distinct
    from multiembed.experiments.grid.outcome import experiment_in
    from multiembed.experiments.paper.item_files import require_matplotlib, write_page
    from multiembed.experiments.paper.study import ITEMS, Scope, asked_items

    names = asked_items(item, checkpoint)
    require_matplotlib()
    amounts = checked(Grid, _parts({"sizes": sizes, "shares": shares}))
    scope = Scope(
        dataset=open_dataset(dataset),
        folder=out_,
        seeds=seeds,
        folds=folds,
        sizes=None if sizes is None else tuple(sorted(set(amounts.sizes))),
        shares=None if shares is None else amounts.shares,
        settings=configured(None, set_ or [], {}).model_dump(mode="json", exclude_unset=True),
        checkpoint=checkpoint,
        reference=protocol == "reference",
    )
    plans = {name: ITEMS[name].plan(scope) for name in names}
    cases = distinct(case for plan in plans.values() for case in plan)
    with experiment_in(out_):
        done = run_watched(cases, out_, workers=workers, ray=ray).done if cases else []
        outcomes = {case.name: outcome for case, outcome in done}
        found, failures = show_items(plans, outcomes, scope)
        if item == "all" and found:
            page = write_page(out_, found, dataset=str(dataset))
            out.print(f"All on one page: {page}")
    if failures:
        raise DataError("; ".join(failures))


@app.command("demo")
def demo_command(
    out_: OutArgument = Path("demo"),
) -> None:
    """Train three models on real flight records and compare their collapse; minutes."""
    from multiembed.cli.experiment_output import demo_table
    from multiembed.experiments.demo import run_demo

    with Watcher() as watcher:
        result = run_demo(out_, watcher)
    out.print(demo_table(result.rows))
    for sentence in result.findings:
        out.print(sentence)
    out.print(f"Report: {result.report}")
