"""Options that several commands share."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import click

from fastmf.cli.console import remark
from fastmf.errors import counted


class Headed(click.Option):
    """An option with the heading under which the help of a :class:`SolverCommand` shows it."""

    def __init__(self, *args: Any, heading: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.heading = heading


HEADINGS = INPUT, MODEL, TRAINING, OUTPUT = "Input", "Model", "Training", "Output"
input_option, model_option, training_option, output_option = (
    functools.partial(click.option, cls=Headed, heading=heading) for heading in HEADINGS
)

json_option = output_option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
n_option = click.option("-n", default=10, show_default=True, help="Length of each list.")
overwrite_option = output_option("--overwrite", is_flag=True, help="Replace the output if it exists.")
plot_option = output_option("--plot", metavar="FILE", help="Also draw a picture: .svg, .png or .pdf.")
titles_option = click.option("--titles", metavar="FILE", help="Table with item ids and a column 'title'.")
columns_out_option = click.option("--columns-out", type=click.Choice(["ours", "given"]), default="ours",
                                  show_default=True,
                                  help="Names of columns: user_id and item_id, or as in training.")  # fmt: skip
rank_by_option = click.option("--rank-by", type=click.Choice(["choice", "rating", "blend"]),
                              help="By what users choose, by prediction, or by prediction with popularity added"
                              " (needs fit --blend).  [default: choice, if the model has learned it]")  # fmt: skip


def together(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a decorator that adds options to a command, in this order."""

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


bad_rows_option = input_option(
    "--bad-rows",
    type=click.Choice(["error", "drop"]),
    default="error",
    show_default=True,
    help="What to do with null ids and times, ratings that are not finite, weights not above 0, and broken"
    " lines of text.",
)
TEXT = ("columns", "sep", "decimal", "encoding", "wide")
encoding_option = input_option("--encoding", metavar="NAME",
                               help="Encoding of text, such as latin-1.  [default: UTF-8]")  # fmt: skip
text_options = together(
    input_option("--columns", metavar="NAMES",
                 help="Names of the columns of text without a header, such as user,item,rating; - leaves one out."),
    input_option("--sep", metavar="TEXT", help="What is between columns of text: ; tab blank :: …  [default: found]"),
    input_option("--decimal", type=click.Choice([".", ","]), help="Decimal mark in text.  [default: found]"),
    encoding_option,
    input_option("--wide", is_flag=True, help="A row is a user, and every column but the first an item."),
)  # fmt: skip


def column_options(*roles: str, suffix: str = "") -> Callable[[Any], Any]:
    """Return a decorator that adds --user, --item, --rating: the names of columns.

    With the ``suffix`` "-column", --user and --item are free for ids.
    """
    text = "Column of the {}s, if it has none of the usual names."
    names = (input_option(f"--{role}{suffix}", metavar="COLUMN", help=text.format(role)) for role in roles)
    return together(*names)


def reading_options(*roles: str, suffix: str = "") -> Callable[[Any], Any]:
    """Return a decorator that adds the names of columns, and the layout of text."""
    return together(column_options(*roles, suffix=suffix), text_options)


def reading(given: dict[str, Any]) -> dict[str, Any]:
    """Take the options of :func:`reading_options` out of the given ones; return those that were given."""
    names = {f"{role}{suffix}": role for role in ("user", "item", "rating") for suffix in ("", "_column")}
    names |= {name: name for name in (*TEXT, "bad_rows")}
    found = {role: given.pop(name) for name, role in names.items() if name in given}
    return {role: value for role, value in found.items() if value not in (None, False)}


def text_of(how: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of :func:`reading` that holds for all text files of a command: the encoding and decimal mark."""
    return {name: how[name] for name in ("encoding", "decimal") if name in how}


def one_or_more(paths: tuple[str, ...]) -> Any:
    """Return the one path of an argument that takes several, or a list of them."""
    return paths[0] if len(paths) == 1 else list(paths)


def feature_options(text: str) -> Callable[[Any], Any]:
    """Return a decorator that adds --item-features and --user-features."""
    names = "item", "user"
    return together(*(input_option(f"--{side}-features", metavar="FILE", help=text.format(side)) for side in names))


def with_features(loaded: Any, how: Mapping[str, Any], **tables: str | None) -> Any:
    """Return a model with the items and users added that it does not know, from tables of their features.

    ``how`` is the result of :func:`reading`.
    """
    from fastmf.model.grow import add_new_rows

    for name, source in tables.items():
        if source is not None:
            side = name.removesuffix("_features")
            n_before = int(loaded.present(side).sum())
            loaded, n_known = add_new_rows(loaded, side, source, how.get(side), **text_of(how))
            n_added = int(loaded.present(side).sum()) - n_before
            remark(f"{source}: {counted(n_added, side)} added by their features, {n_known:,} are in the model already")
    return loaded


# How ratings are read and where they are fitted, for fit and tune.
fitting_options = together(
    training_option("--device", default="cpu", show_default=True, help="cpu, cuda (cuda:1 …), numpy (slow), or auto."),
    training_option("--threads", type=int, help="Use at most this many threads.  [default: all]"),
    reading_options("user", "item", "rating"),
    feature_options("Table with ids of {}s and columns of what is known of them."),
    input_option("--weight", metavar="COLUMN", help="Column of weights; may be the ratings' column."),
    input_option("--half-life", type=float, metavar="DAYS",
                 help="Halve a rating's weight for every DAYS that it is older than the newest."),
    input_option("--timestamp", metavar="COLUMN", help="Column of times, for --half-life.  [default: timestamp]"),
    input_option("--time-unit", type=click.Choice(["s", "ms", "us", "ns"]),
                 help="What times that are numbers count since 1970.  [default: s]"),
    input_option("--duplicates", type=click.Choice(["error", "last", "mean", "sum"]), default="error",
                 show_default=True, help="What to do with rows of the same user and item."),
    bad_rows_option,
    input_option("--min-user-ratings", type=int, metavar="N",
                 help="Leave out users with fewer ratings, until all that remain have enough."),
    input_option("--min-item-ratings", type=int, metavar="N", help="The same for items."),
    training_option("--memory-limit", metavar="SIZE",
                 help="Refuse work that needs more memory, e.g. 4GiB.  [default: free memory]"),
)  # fmt: skip


def as_fraction(text: str) -> str | float:
    """Convert --validation: a number is the fraction to hold out, other text is a path."""
    try:
        return float(text)
    except ValueError:
        return text
