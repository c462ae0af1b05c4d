"""``fastmf evaluate``: a model against held-out ratings."""

from typing import Any

import click

import fastmf
from fastmf.cli.console import remark, show_json, show_table
from fastmf.cli.options import (
    bad_rows_option,
    feature_options,
    json_option,
    n_option,
    one_or_more,
    overwrite_option,
    plot_option,
    rank_by_option,
    reading,
    reading_options,
    with_features,
)
from fastmf.cli.output import check_plot, save_plot
from fastmf.errors import counted, verb


@click.command()
@click.argument("model")
@click.argument("ratings", nargs=-1, required=True)
@n_option
@click.option("--relevant-from", type=float, help="Lowest rating of a relevant item.  [default: all rated items]")
@rank_by_option
@feature_options("Table with features of further {}s, which have no ratings.")
@reading_options("user", "item", "rating")
@bad_rows_option
@plot_option
@overwrite_option
@json_option
def evaluate(
    model: str,
    ratings: tuple[str, ...],
    n: int,
    relevant_from: float | None,
    rank_by: str | None,
    item_features: str | None,
    user_features: str | None,
    plot: str | None,
    overwrite: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Measure a model on held-out ratings.

    Shows the errors of the predictions, next to those of biases alone, over all pairs and by the user's number of
    training ratings; the quality of the top-n lists, next to that of lists of the most rated items; for solver gibbs
    the share of ratings inside the predicted intervals; and, if the model has side features, the errors for ids with
    ratings, with features alone, and unknown. Unknown ids are counted, not dropped.

    \b
    Example:
      fastmf evaluate ratings.fastmf heldout.parquet --relevant-from 4 --plot errors.svg
    """
    from fastmf.data.ratings import Ratings
    from fastmf.evaluation.evaluate import reading_for
    from fastmf.model.recommend import meaning_of
    from fastmf.reporting import pictures
    from fastmf.training.plan import notes_on

    check_plot(plot, overwrite, [model, *ratings])
    how = reading(given)
    loaded = with_features(fastmf.load(model), how, item_features=item_features, user_features=user_features)
    data = Ratings.read(one_or_more(ratings), **reading_for(loaded, relevant_from) | how)
    for line in notes_on(data):
        remark(line)
    result = fastmf.evaluate(loaded, data, n=n, relevant_from=relevant_from, rank_by=rank_by)
    remark(f"score of lists: {meaning_of(loaded, rank_by)}")
    if result["trained_pairs"]:
        pairs = f"{counted(len(data), 'pair')} {verb(len(data), 'was', 'were')}"
        remark(f"note: {result['trained_pairs']:,} of {pairs} trained on: the figures are misleading")
    if as_json:
        show_json(result)
    else:
        _show(result)
    save_plot(plot, lambda: pictures.evaluation(result), overwrite)


def _show(result: dict[str, Any]) -> None:
    """Show the measures as tables."""
    result = dict(result)
    bands, coverage = result.pop("by_activity", {}), result.pop("coverage", {})
    known = {side: result.pop(f"by_{side}", {}) for side in ("user", "item")}
    popular = result.pop("popularity") or {}
    rows = [(name, _number(value), _number(popular.get(name), none="")) for name, value in result.items()]
    show_table(("measure", "value", "by popularity"), rows)
    _show_errors("ratings of the user", bands)
    for side, groups in known.items():
        _show_errors(side, groups)
    if coverage:
        shares = [(f"{level} %", f"{100 * share:.1f} %") for level, share in coverage.items()]
        show_table(("interval", "ratings in it"), shares)


def _show_errors(name: str, groups: dict[str, dict[str, Any]]) -> None:
    """Show the errors of groups of pairs, if there are any."""
    if groups:
        rows = [(group, *map(_number, found.values())) for group, found in groups.items()]
        show_table((name, "pairs", "rmse", "rmse_of_biases"), rows)


def _number(value: Any, none: str = "-") -> str:
    """Format a measure: errors to 4 places, counts with commas."""
    return none if value is None else f"{value:.4f}" if isinstance(value, float) else f"{value:,}"
