"""``fastmf recommend``: the best unseen items of users, old and new."""

from typing import Any

import click

import fastmf
from fastmf.cli.options import json_option, n_option, overwrite_option, titles_option


@click.command()
@click.argument("model")
@click.option("--user", "user_texts", multiple=True, metavar="ID", help="A user's id; may be given several times.")
@click.option("--users", metavar="FILE", help="Parquet with a column of user ids.")
@click.option("--all", "everyone", is_flag=True, help="Recommend for every user.")
@click.option("--new-users", metavar="RATINGS", help="Ratings of new users, who are folded in.")
@n_option
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
    everyone: bool,
    new_users: str | None,
    n: int,
    exclude: str | None,
    include_seen: bool,
    device: str,
    titles: str | None,
    output: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """List the unseen items with the highest predictions.

    \b
    Examples:
      fastmf recommend ratings.fastmf --user 42 --user 7 -n 5 --titles movies.parquet
      fastmf recommend ratings.fastmf --all -o lists.parquet
      fastmf recommend ratings.fastmf --new-users new.parquet --json
    """
    from fastmf import files, ids, tables
    from fastmf.cli import console
    from fastmf.device import resolve

    ways = {"--user": user_texts, "--users": users, "--all": everyone, "--new-users": new_users}
    if sum(bool(way) for way in ways.values()) != 1:
        raise click.UsageError(f"say for whom: give one of {', '.join(ways)}")
    if output:
        files.check_output(output, overwrite, inputs=[model, users, new_users, exclude, titles])
    where = console.say_device(resolve(device))
    loaded = fastmf.load(model)
    wanted: Any = None
    if new_users:
        loaded = loaded.fold_in(new_users, device=where)
        console.remark(
            f"{loaded.rows['used']:,} ratings used, {loaded.rows['unknown_items']:,} of unknown items left out"
        )
    elif users:
        wanted = tables.read(users, {"user": None}).column(0)
    elif user_texts:
        wanted = ids.parse(loaded.user_ids, user_texts, "user")
    lists = loaded.recommend(wanted, n, exclude=exclude, include_seen=include_seen, device=where)
    publish(with_titles(lists, "item_id", titles), output, overwrite, as_json)


def with_titles(lists: Any, column: str, titles: str | None) -> Any:
    """Add the title of each item; empty where there is none."""
    if titles is None:
        return lists
    from fastmf import tables
    from fastmf.cli import console

    named = lists[column].map(tables.read_titles(titles))
    if named.isna().any():
        console.remark(f"note: {int(named.isna().sum()):,} of {len(named):,} items have no title in {titles}")
    return lists.assign(title=named.fillna(""))


def publish(frame: Any, output: str | None, overwrite: bool, as_json: bool) -> None:
    """Write a frame to a file, or print it as JSON records or a table."""
    from fastmf import tables
    from fastmf.cli import console

    if output:
        tables.write(frame, output, overwrite)
        if as_json:
            console.show_json({"output": output, "rows": len(frame)})
        else:
            console.remark(f"{len(frame):,} rows are in:")
            click.echo(output)
    elif as_json:
        console.show_json(frame.to_dict("records"))
    else:
        console.show_table(list(frame.columns), frame.to_dict("split")["data"])
