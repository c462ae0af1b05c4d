"""``fastmf recommend``: the best unseen items of users, old and new."""

from collections.abc import Iterable, Iterator
from typing import Any

import click

import fastmf
from fastmf.cli.options import json_option, n_option, overwrite_option, rank_by_option, titles_option


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
@click.option("--include-seen", is_flag=True, help="Recommend what users have rated in training too.")
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
    how = {"rank_by": rank_by, "items": _candidates(loaded, items), "exclude": exclude, "include_seen": include_seen}
    lists = _counted(loaded.lists_of(wanted, lengths, device=where, **how), len(wanted))
    named = titled(console.rows_shown(lists, len(wanted), not output), "item_id", titles)
    publish_all(named, output, overwrite, as_json)


def _folded(loaded: Any, new_users: str, where: Any) -> Any:
    """Fold new users in, and say what of their ratings was used."""
    from fastmf.cli import console

    found = loaded.fold_in(new_users, device=where)
    used, unknown, again = (found.rows[name] for name in ("used", "unknown_items", "duplicates"))
    merged = f", {again:,} of repeated pairs merged (fitted with --duplicates {loaded.duplicates})" if again else ""
    console.remark(f"{used:,} ratings used, {unknown:,} of unknown items left out{merged}")
    return found


def _counted(frames: Iterable[Any], n_users: int) -> Iterator[Any]:
    """Pass frames on; say at the end how many users have no list, as there was nothing left for them."""
    from fastmf.cli import console

    n_lists = 0
    for frame in frames:
        n_lists += int((frame["rank"] == 1).sum())
        yield frame
    if n_lists < n_users:
        console.remark(f"note: for {n_users - n_lists:,} of {n_users:,} users there is no item left to recommend")


def _wanted(loaded: Any, texts: tuple[str, ...], users: str | None, n_column: str | None, n: int) -> tuple[Any, Any]:
    """Find the users to recommend for, by dense index, and the length of the list of each, or of all."""
    from fastmf.data import ids
    from fastmf.data.read import read_columns

    if texts:
        return loaded.users_of(ids.parse(loaded.user_ids, texts, "user")), n
    if not users:
        return loaded.users_of(None), n
    roles = {"user": None} | ({"n": n_column} if n_column else {})
    table = read_columns(users, roles)
    return loaded.users_of(table.column(0)), _lengths(table.column(1), users) if n_column else n


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


def _candidates(loaded: Any, items: str | None) -> Any:
    """Read the items to choose from; say how many of them the model does not know."""
    if items is None:
        return None
    from fastmf.cli import console
    from fastmf.data.read import read_columns

    column = read_columns(items, {"item": None}).column(0)
    unknown = int((loaded.known_items(column) < 0).sum())
    if unknown:
        console.remark(f"note: {unknown:,} of {len(column):,} items in {items} have no training ratings")
    return column


def titled(frames: Iterable[Any], column: str, titles: str | None) -> Iterator[Any]:
    """Add the title of each item to frames, empty where there is none; say at the end how many have none."""
    if titles is None:
        yield from frames
        return
    from fastmf.cli import console
    from fastmf.data.read import read_titles

    names, rows, missing = read_titles(titles), 0, 0
    for frame in frames:
        named = frame[column].map(names)
        rows, missing = rows + len(named), missing + int(named.isna().sum())
        yield frame.assign(title=named.fillna(""))
    if missing:
        console.remark(f"note: {missing:,} of {rows:,} items have no title in {titles}")


def publish_all(frames: Iterable[Any], output: str | None, overwrite: bool, as_json: bool) -> None:
    """Write frames to a file one after another, or print them together."""
    from fastmf.cli import console
    from fastmf.data.write import joined, write_frames

    if not output:
        publish(joined(frames), as_json)
        return
    rows = 0

    def counted() -> Iterator[Any]:
        nonlocal rows
        for frame in frames:
            rows += len(frame)
            yield frame

    write_frames(counted(), output, overwrite)
    if as_json:
        console.show_json({"output": output, "rows": rows})
    else:
        console.remark(f"{rows:,} rows are in:")
        click.echo(output)


def publish(frame: Any, as_json: bool) -> None:
    """Print a frame as JSON records or a table."""
    from fastmf.cli import console

    if as_json:
        console.show_json(frame.to_dict("records"))
    else:
        console.show_table(list(frame.columns), frame.to_dict("split")["data"])
