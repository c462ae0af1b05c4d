"""``fastmf explain``: what each of a user's items contributes to the score of an item."""

from typing import Any

import click

import fastmf
from fastmf.cli.console import remark, show_json, show_table
from fastmf.cli.like import item_of, like_option
from fastmf.cli.options import (
    columns_out_option,
    json_option,
    n_option,
    reading,
    reading_options,
    text_of,
    titles_option,
)
from fastmf.cli.output import publish, titled
from fastmf.errors import counted


@click.command(context_settings={"ignore_unknown_options": True})  # -3 is an id
@click.argument("model")
@click.argument("user")
@click.argument("item", required=False)
@like_option
@click.option("--ratings", metavar="RATINGS", help="The user's ratings; not needed for implicit feedback without"
              " --weight, if all that the user has rated counts as observed.")  # fmt: skip
@n_option
@titles_option
@columns_out_option
@reading_options("user", "item", "rating", suffix="-column")
@json_option
def explain(model: str, user: str, item: str | None, like: str | None, ratings: str | None, n: int,
            titles: str | None, columns_out: str, as_json: bool, **given: Any) -> None:  # fmt: skip
    """List the items of USER that add most to the score of ITEM, or take most from it, given the user's ratings.

    For models of ratings, the score is the predicted rating, not how likely the user is to choose the item.

    With --like, ITEM is the one with such a title.

    \b
    Examples:
      fastmf explain clicks.fastmf 42 318 --titles movies.parquet
      fastmf explain ratings.fastmf 42 318 --ratings ratings.parquet
    """
    from fastmf.data import ids
    from fastmf.errors import require_integer
    from fastmf.model.tables import named

    require_integer("n", n, 1)
    loaded, how = fastmf.load(model), reading(given)
    (user_id,) = ids.parse(loaded.arrow_ids("user"), [user], "user")
    item_ids, names = item_of(loaded, item, like, titles, **text_of(how))
    found = loaded.explain(user_id, item_ids, ratings, **how)
    (shown,) = titled(loaded, [found.head(n)], "item_id", titles, names, **text_of(how))
    shown = named(shown, loaded, columns_out)
    if as_json:
        show_json({**found.attrs, "items": len(found), "contributions": shown.to_dict("records")})
        return
    publish(shown, False)
    for side in ("user", "item"):
        shares = found.attrs.get(f"{side}_features")
        if shares:
            most = sorted(shares.items(), key=lambda pair: -abs(pair[1]))[:n]
            show_table((f"feature of the {side}", "contribution"), [(name, f"{share:.4f}") for name, share in most])
    total, hidden = found["contribution"].sum(), found["contribution"].iloc[n:]
    not_shown = f"{hidden.clip(lower=0).sum():.4f} and {hidden.clip(upper=0).sum():.4f}"
    score = "score" if loaded.implicit else "prediction"
    remark(
        f"{score} {found.attrs['score']:.4f}: {found.attrs['rest']:.4f} regardless of the user's ratings,"
        f" {total:.4f} from {counted(len(found), 'item')}, including {not_shown} from items not shown"
    )
