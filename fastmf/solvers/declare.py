"""How a solver declares its settings: fields of its dataclass, each with one sentence of help and its limits.

Validation, the docstrings of solvers, the options of the command line and the search of :func:`fastmf.tune` all use
these declarations.
"""

import math
from dataclasses import Field, dataclass, field, fields
from types import NoneType
from typing import Any, NamedTuple, TypeVar, dataclass_transform, get_args

from fastmf.errors import require_choice, require_integer, require_number, require_truth

T = TypeVar("T")

RAISES = """    Raises
    ------
    ParameterError
        If a setting has an invalid value."""


class Setting(NamedTuple):
    """A setting and its limits.

    ``kind`` is int, float, bool or str; if ``optional``, None is allowed, too. Numbers lie in [low, high], or in
    (low, high] if ``above``; text is one of ``choices``. ``usual`` says what the default None stands for.
    """

    name: str
    default: Any
    kind: type
    optional: bool
    help: str
    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    choices: tuple[str, ...] = ()
    usual: str = ""

    def check(self, value: Any) -> None:
        """Raise a ParameterError unless the setting allows this value."""
        if value is None and self.optional:
            return
        if self.kind is bool:
            require_truth(self.name, value)
        elif self.kind is str:
            require_choice(self.name, value, self.choices)
        elif self.kind is int:
            require_integer(self.name, value, int(self.low), None if math.isinf(self.high) else int(self.high))
        else:
            require_number(self.name, value, low=self.low, above=self.above, high=self.high)


def setting(text: str, *, default: Any, **limits: Any) -> Any:
    """Declare a setting as a field of a solver's dataclass; ``limits`` are those of :class:`Setting`.

    A subclass that changes only the default writes ``name: type = default`` and inherits help and limits.
    """
    return field(default=default, metadata={"help": text, **limits})


def settings_of(solver: type) -> dict[str, Setting]:
    """Return the settings of a solver class, by name."""
    found = {}
    for declared in fields(solver):
        allowed = get_args(declared.type) or (declared.type,)
        kind = next(kind for kind in allowed if kind is not NoneType)
        described = _description(solver, declared)
        found[declared.name] = Setting(declared.name, declared.default, kind, NoneType in allowed, **described)
    return found


def _description(solver: type, declared: "Field[Any]") -> dict[str, Any]:
    """Return the help and limits of a setting, as declared by the class or its nearest base."""
    for kind in solver.__mro__:
        inherited = getattr(kind, "__dataclass_fields__", {}).get(declared.name)
        if inherited is not None and "help" in inherited.metadata:
            return dict(inherited.metadata)
    raise TypeError(f"setting {declared.name} of {solver.__name__} has no help: declare it with setting()")


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(setting,))
def with_settings(solver: type[T]) -> type[T]:
    """Turn a solver class into a frozen dataclass, and add its settings to its docstring."""
    made = dataclass(frozen=True, kw_only=True)(solver)
    lines = ["    Parameters", "    ----------"]
    for each in settings_of(made).values():
        values = " or ".join(f'"{choice}"' for choice in each.choices) or each.kind.__name__
        usual = f'"{each.default}"' if isinstance(each.default, str) else each.usual or each.default
        lines += [f"    {each.name} : {values}, default {usual}", f"        {each.help}"]
    summary, heading, examples = (made.__doc__ or "").partition("\n\n    Examples\n")
    made.__doc__ = "\n\n".join([summary.rstrip(), "\n".join(lines), RAISES]) + heading + examples
    return made
