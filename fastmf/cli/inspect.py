"""``fastmf inspect``: what a model file holds."""

from dataclasses import asdict
from typing import Any

import click

import fastmf
from fastmf.cli.console import show_json, show_table
from fastmf.cli.options import json_option


@click.command()
@click.argument("model")
@json_option
def inspect(model: str, as_json: bool) -> None:
    """Show what a model holds and how it was fitted.

    \b
    Example:
      fastmf inspect ratings.fastmf --json
    """
    from fastmf.model.history import train_name

    loaded = fastmf.load(model)
    found = summary(loaded)
    if as_json:
        show_json(found)
        return
    history = found.pop("history")
    if found["weight"] == "":
        found["weight"] = "number of rows"
    if loaded.weight_scale is not None:
        found["weight_scale"] = f"{loaded.weight_scale.describe(loaded.weight or '')}, to a mean of 1"
    if loaded.half_life is not None:
        found["half_life"] = loaded.half_life.describe()
    for side in ("user", "item"):
        facts = found.pop(f"{side}_features")
        if facts is not None:
            found[f"{side} features"] = facts["features"]
            found[f"{side} feature columns"] = ", ".join(facts["columns"])
            found[f"{side}s known by features alone"] = facts["known_alone"]
    for group in ("rows", "solver"):
        found |= {f"{group} {name}": value for name, value in found.pop(group).items()}
    show_table(("property", "value"), [(name, str(value)) for name, value in found.items()])
    if history:
        names = [name for name in history[0] if any(epoch[name] is not None for epoch in history)]
        heads = [train_name(True) if loaded.implicit and name == "train_rmse" else name for name in names]
        show_table(heads, [[epoch[name] for name in names] for epoch in history])


def summary(model: Any) -> dict[str, Any]:
    """Describe a model as plain data."""
    return {
        "users": len(model.user_ids),
        "items": len(model.item_ids),
        "cold_users": int((model.user_counts == 0).sum()),
        "cold_items": int((model.item_counts == 0).sum()),
        "user_features": _features_of(model, "user"),
        "item_features": _features_of(model, "item"),
        "user_id_type": str(model.user_ids.type),
        "item_id_type": str(model.item_ids.type),
        "k": model.k,
        "rows": model.rows,
        "mean": model.mean,
        "scale": model.scale,
        "rating_range": list(model.rating_range),
        "solver": model.solver,
        "alpha0": model.user_rule.all_pairs if model.implicit else None,
        "best_epoch": model.best_epoch,
        "weight": model.weight,
        "weight_scale": None if model.weight_scale is None else asdict(model.weight_scale),
        "half_life": None if model.half_life is None else asdict(model.half_life),
        "blend": model.blend,
        "has": [name for name, group in model.learned.items() if group is not None],
        "samples": 0 if model.samples is None else len(model.samples.user_bias),
        "history": [asdict(epoch) for epoch in model.history],
        "content_hash": model.content_hash,
    }


def _features_of(model: Any, side: str) -> dict[str, Any] | None:
    """Describe the side features of the "user"s or "item"s as plain data; None if there are none."""
    features = getattr(model, f"{side}_features")
    if features is None:
        return None
    alone = model.present(side) & (getattr(model, f"{side}_counts") == 0)
    return {
        "features": features.encoding.n_features,
        "columns": list(dict.fromkeys(column.name for column in features.encoding.columns)),
        "known_alone": int(alone.sum()),
    }
