"""``fastmf recommend``: the best unseen items of users, old and new."""

from collections.abc import Iterable, Iterator
from typing import Any

import click

import fastmf
from fastmf.cli.options import json_option, n_option, overwrite_option, rank_by_option, titles_option
from fastmf.cli.publish import publish_all, titled


@click.command()
@click.argument("model")
@click.option("--user", "user_texts", multiple=True, metavar="ID", help="A user's id; may be given several times.")
@click.option("--users", metavar="FILE", help="Parquet with a column of user ids.")
@click.option("--n-column", metavar="COLUMN", help="Column of the --users file: the length of each user's list.")
@click.option("--all", "everyone", is_flag=True, help="Recommend for every user.")
@click.option("--new-users", metavar="RATINGS", help="Ratings of new users, who are folded in.")
@n_option
@rank_by_option
@click.option("--items", metavar="FILE", help="Parquet with a column of item ids: recommend only these.")
@click.option("--exclude", metavar="RATINGS", help="Parquet of further (user, item) pairs to leave out.")
@click.option("--include-seen", is_flag=True, help="Recommend what users have rated in training, too.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda (cuda:1 …), or auto.")
@titles_option
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
    rank_by: str,
    items: str | None,
    exclude: str | None,
    include_seen: bool,
    device: str,
    titles: str | None,
    output: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """List the unseen items with the highest predictions, or scores.

    A model of solver implicit is made to rank. One of ratings says what users would rate highly, which is seldom what
    they choose: --rank-by blend adds what popularity is worth, if it was fitted with --blend.

    \b
    Examples:
      fastmf recommend ratings.fastmf --user 42 --user 7 -n 5 --titles movies.parquet
      fastmf recommend ratings.fastmf --all -o lists.parquet
      fastmf recommend ratings.fastmf --new-users new.parquet --json
    """
    from fastmf.cli import console
    from fastmf.data.atomic import check_output
    from fastmf.runtime.device import resolve

    ways = {"--user": user_texts, "--users": users, "--all": everyone, "--new-users": new_users}
    if sum(bool(way) for way in ways.values()) != 1:
        raise click.UsageError(f"say for whom: give one of {', '.join(ways)}")
    if n_column and not users:
        raise click.UsageError("--n-column is a column of the --users file: give that")
    if output:
        check_output(output, overwrite, inputs=[model, users, new_users, items, exclude, titles])
    where = console.say_device(resolve(device))
    loaded = fastmf.load(model)
    if new_users:
        loaded = _folded(loaded, new_users, where)
    wanted, lengths = _wanted(loaded, user_texts, users, n_column, n)
    total = len(loaded.user_ids) if wanted is None else len(wanted)
    how = {"rank_by": rank_by, "items": _items(items), "exclude": exclude, "include_seen": include_seen}
    lists = _noted(loaded.recommend_batches(wanted, lengths, device=where, **how), total, items)
    publish_all(titled(console.rows_shown(lists, total, not output), "item_id", titles), output, overwrite, as_json)


def _folded(loaded: Any, new_users: str, where: Any) -> Any:
    """Fold new users in, and say what of their ratings was used."""
    from fastmf.cli import console

    found = loaded.fold_in(new_users, device=where)
    used, unknown, again = (found.rows[name] for name in ("used", "unknown_items", "duplicates"))
    merged = f", {again:,} of repeated pairs merged (fitted with --duplicates {loaded.duplicates})" if again else ""
    console.remark(f"{used:,} ratings used, {unknown:,} of unknown items left out{merged}")
    return found


def _noted(frames: Iterable[Any], n_users: int, items: str | None) -> Iterator[Any]:
    """Pass frames on; say how many items are unknown, and at the end how many users have no list."""
    from fastmf.cli import console

    n_lists = 0
    for place, frame in enumerate(frames):
        unknown = frame.attrs["unknown_items"]
        if unknown and not place:
            console.remark(f"note: {unknown:,} of the items in {items} have no training ratings")
        n_lists += int((frame["rank"] == 1).sum())
        yield frame
    if n_lists < n_users:
        console.remark(f"note: for {n_users - n_lists:,} of {n_users:,} users there is no item left to recommend")


def _wanted(loaded: Any, texts: tuple[str, ...], users: str | None, n_column: str | None, n: int) -> tuple[Any, Any]:
    """Return the ids of the users to recommend for (None for all), and the length of all lists or of each."""
    from fastmf.data import ids
    from fastmf.data.read import read_columns

    if texts:
        return ids.parse(loaded.user_ids, texts, "user"), n
    if not users:
        return None, n
    roles = {"user": None} | ({"n": n_column} if n_column else {})
    table = read_columns(users, roles)
    return table.column(0), _lengths(table.column(1), users) if n_column else n


def _lengths(column: Any, users: str) -> Any:
    """Read the lengths of lists.

    Raises
    ------
    DataError
        If they are not integers of at least 1.
    """
    from fastmf.errors import DataError

    found = column.to_numpy()  # nulls become NaN
    if found.dtype.kind not in "iu" or (found < 1).any():
        bad = int((found < 1).sum()) if found.dtype.kind in "iu" else column.null_count or len(found)
        raise DataError(
            f"{users}: {bad:,} of {len(found):,} lengths of lists are no integers of at least 1: correct them"
        )
    return found


def _items(items: str | None) -> Any:
    """Read the items to choose from."""
    from fastmf.data.read import read_columns

    return None if items is None else read_columns(items, {"item": None}).column(0)
