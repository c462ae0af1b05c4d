"""``fastmf recommend``: the best unseen items for known or new users."""

from collections.abc import Iterable, Iterator
from typing import Any

import click

import fastmf
from fastmf.cli.console import remark, rows_shown, say_device
from fastmf.cli.options import (
    bad_rows_option,
    columns_out_option,
    feature_options,
    json_option,
    n_option,
    overwrite_option,
    rank_by_option,
    reading,
    reading_options,
    text_of,
    titles_option,
    with_features,
)
from fastmf.cli.output import check_tables, note_unknown, publish_all, titled
from fastmf.errors import counted

SIDES = "item", "user"


@click.command()
@click.argument("model")
@click.option("--user", "user_texts", multiple=True, metavar="ID", help="A user's id; may be given several times.")
@click.option("--users", metavar="FILE", help="Table with a column of user ids.")
@click.option("--n-column", metavar="COLUMN", help="Column of the --users file with the length of each list.")
@click.option("--all", "everyone", is_flag=True, help="Recommend for every user.")
@click.option("--new-users", metavar="RATINGS", help="Ratings of new users, who are folded in.")
@n_option
@rank_by_option
@click.option("--items", metavar="FILE", help="Table with a column of item ids: recommend only these.")
@click.option("--exclude", metavar="RATINGS", help="Table with further (user, item) pairs to leave out.")
@click.option("--no-cold", is_flag=True, help="Leave out items that are known by their features alone.")
@feature_options("Table with features of further {}s, which have no ratings, or of the --new-users.")
@click.option("--include-seen", is_flag=True, help="Also recommend items that users rated in training.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda (cuda:1 …), or auto.")
@titles_option
@columns_out_option
@reading_options("user", "item", "rating", suffix="-column")
@bad_rows_option
@click.option("-o", "--output", metavar="OUT", help="Parquet or CSV file to write instead of printing.")
@overwrite_option
@json_option
def recommend(
    model: str,
    user_texts: tuple[str, ...],
    users: str | None,
    n_column: str | None,
    everyone: bool,
    new_users: str | None,
    n: int,
    items: str | None,
    device: str,
    titles: str | None,
    output: str | None,
    overwrite: bool,
    as_json: bool,
    **how: Any,
) -> None:
    """List the unseen items that users are most likely to choose.

    A model of ratings predicts what users would rate highly, which is seldom what they choose next. Its lists are
    therefore ranked by what users choose, which the model has also learned; --rank-by rating ranks by prediction.

    \b
    Examples:
      fastmf recommend ratings.fastmf --user 42 --user 7 -n 5 --titles movies.parquet
      fastmf recommend ratings.fastmf --all -o lists.parquet
      fastmf recommend ratings.fastmf --new-users new.parquet --json
    """
    from fastmf.model.tables import named
    from fastmf.runtime.device import resolve

    ways = {"--user": user_texts, "--users": users, "--all": everyone, "--new-users": new_users}
    _require_one(ways, n_column)
    if output:
        inputs = [model, users, new_users, items, titles, how["exclude"], *(how[f"{side}_features"] for side in SIDES)]
        check_tables([output], overwrite, inputs=inputs)
    where = say_device(resolve(device))
    read, of_users, how["cold"] = reading(how), how.pop("user_features"), not how.pop("no_cold")
    columns, layout = how.pop("columns_out"), text_of(read)
    loaded = with_features(fastmf.load(model), read, item_features=how.pop("item_features"))
    if new_users:
        loaded = _folded(loaded, new_users, of_users, where, read)
    else:
        loaded = with_features(loaded, read, user_features=of_users)
    wanted, lengths = _wanted(loaded, user_texts, users, n_column, n, read)
    total = len(loaded.user_ids) if wanted is None else len(wanted)
    candidates, how["exclude"] = _restrictions(loaded, items, how["exclude"], read)
    frames = loaded.recommend_batches(wanted, lengths, device=where, items=candidates, **how)
    lists = rows_shown(_noted(frames, total, candidates, items), total, not output)
    with_titles = titled(loaded, lists, "item_id", titles, **layout)
    publish_all((named(frame, loaded, columns) for frame in with_titles), output, overwrite, as_json)


def _require_one(ways: dict[str, Any], n_column: str | None) -> None:
    """Raise a UsageError unless users are named in exactly one of the ways, and lengths of lists only in a file."""
    if sum(bool(way) for way in ways.values()) != 1:
        raise click.UsageError(f"for which users? Give exactly one of {', '.join(ways)}")
    if n_column and not ways["--users"]:
        raise click.UsageError("--n-column is a column of the --users file: give --users, too")


def _restrictions(loaded: Any, items: str | None, exclude: str | None, how: dict[str, Any]) -> tuple[Any, Any]:
    """Read the items to choose from, and the pairs to leave out; None for what is not given."""
    from fastmf.model.tables import read_ids, read_pairs

    item, layout = how.get("item"), text_of(how)
    return (
        None if items is None else read_ids(loaded, items, "item", item, **layout),
        None if exclude is None else read_pairs(loaded, exclude, how.get("user"), item, **layout),
    )


def _folded(loaded: Any, new_users: str, features: str | None, where: Any, how: dict[str, Any]) -> Any:
    """Fold new users in, and report how many of their ratings were used."""
    found = loaded.fold_in(new_users, features=features, device=where, **how)
    used, unknown, again = (found.rows[name] for name in ("used", "unknown_items", "duplicates"))
    merged = f", {again:,} of repeated pairs merged (fitted with --duplicates {loaded.duplicates})" if again else ""
    remark(f"{counted(used, 'rating')} used, {unknown:,} of unknown items left out{merged}")
    return found


def _noted(frames: Iterable[Any], n_users: int, candidates: Any, source: str | None) -> Iterator[Any]:
    """Pass frames on; say what scores mean, and count unknown candidates and users without a list."""
    n_lists = 0
    for place, frame in enumerate(frames):
        unknown = frame.attrs["unknown_items"]
        if place == 0:
            remark(f"score: {frame.attrs['score']}")
            if unknown:
                note_unknown(unknown, candidates, source)
        n_lists += int((frame["rank"] == 1).sum())
        yield frame
    if n_lists < n_users:
        remark(f"note: for {n_users - n_lists:,} of {counted(n_users, 'user')} there is no item left to recommend")


def _wanted(
    loaded: Any, texts: tuple[str, ...], users: str | None, n_column: str | None, n: int, how: dict[str, Any]
) -> tuple[Any, Any]:
    """Return the ids of the users to recommend for (None for all), and the length of all lists or of each."""
    from fastmf.data import ids
    from fastmf.data.layout import layout_of
    from fastmf.data.read import like_of, read_columns
    from fastmf.errors import DataError
    from fastmf.model.tables import read_ids

    if texts:
        return ids.parse(loaded.arrow_ids("user"), texts, "user"), n
    if not users:
        return None, n
    if not n_column:
        return read_ids(loaded, users, "user", how.get("user"), **text_of(how)), n
    read = {"said": layout_of(**text_of(how)), "like": like_of(loaded)}
    wanted, column = read_columns(users, {"user": how.get("user"), "n": n_column}, **read).columns
    lengths = column.to_numpy()  # nulls become NaN
    whole = lengths.dtype.kind in "iu"
    bad = int((lengths < 1).sum()) if whole else column.null_count or len(lengths)
    if bad or not whole:
        of = f"{bad:,} of {len(lengths):,} lengths of lists"
        raise DataError(f"{users}: {of} are not integers of at least 1: correct them")
    return wanted, lengths
