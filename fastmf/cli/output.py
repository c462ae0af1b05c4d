"""Output of lists: to a file, or to stdout as a table or JSON, with titles if there are any."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import click

from fastmf.cli.console import remark, show_json, show_table
from fastmf.errors import counted, verb


def check_tables(paths: Iterable[str], overwrite: bool, inputs: Sequence[Any]) -> list[Any]:
    """Check, before the work begins, that tables can be written to files with these names."""
    from fastmf.data.atomic import check_outputs
    from fastmf.data.write import is_csv

    found = check_outputs(paths, overwrite, inputs=inputs)
    for path in found:
        is_csv(path)
    return found


def check_plot(path: str | None, overwrite: bool, others: Sequence[Any] = ()) -> None:
    """Check, before the work begins, that a picture can be drawn and written; ``others`` are files that must stay."""
    if path is None:
        return
    from fastmf.data.atomic import check_output
    from fastmf.reporting.draw import require_report, suffix_of

    suffix_of(path)
    require_report()
    check_output(path, overwrite, inputs=[other for other in others if other is not None])


def save_plot(path: str | None, draw: Callable[[], Any], overwrite: bool) -> None:
    """Draw a picture and write it to a file, unless there is none to write."""
    if path is not None:
        draw().save(path, overwrite)
        remark(f"the picture is in {path}")


def titled(
    loaded: Any, frames: Iterable[Any], column: str, source: str | None, titles: Any = None, **layout: Any
) -> Iterator[Any]:
    """Add a column of titles to frames, unless ``source`` is None; then report how many items have none.

    ``titles`` are those in the file ``source``, if it has been read already; ``layout`` is that of text.
    """
    if source is None:
        yield from frames
        return
    from fastmf.model.titles import titled as with_titles
    from fastmf.model.titles import titles_of

    names, rows, missing = titles_of(source, loaded, **layout) if titles is None else titles, 0, 0
    for frame in frames:
        named = with_titles(frame, column, names)
        rows, missing = rows + len(named), missing + named.attrs["without_title"]
        yield named
    if missing:
        remark(f"note: {missing:,} of {counted(rows, 'item')} {verb(rows, 'has', 'have')} no title in {source}")


def note_unknown(unknown: int, candidates: Sequence[Any], source: str | None) -> None:
    """Report how many of the items to choose from, read from ``source``, cannot be listed."""
    remark(f"note: {unknown:,} of {len(candidates):,} items in {source} are unknown: they have no training ratings")


def publish_all(frames: Iterable[Any], output: str | None, overwrite: bool, as_json: bool) -> None:
    """Write frames to a file one after another, or print them together."""
    from fastmf.data.write import joined, write_frames

    if not output:
        publish(joined(frames), as_json)
        return
    rows = 0

    def passing() -> Iterator[Any]:
        nonlocal rows
        for frame in frames:
            rows += len(frame)
            yield frame

    write_frames(passing(), output, overwrite)
    if as_json:
        show_json({"output": output, "rows": rows})
    else:
        remark(f"{counted(rows, 'row')} {verb(rows, 'is', 'are')} in:")
        click.echo(output)


def publish(frame: Any, as_json: bool) -> None:
    """Print a frame as JSON records or a table."""
    if as_json:
        show_json(frame.to_dict("records"))
    else:
        show_table(list(frame.columns), frame.to_dict("split")["data"])
