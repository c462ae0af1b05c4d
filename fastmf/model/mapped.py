"""A model whose arrays stay in its file: they are mapped, and each is checked when it is first used."""

from typing import Any

from fastmf.model.file import LARGE, map_model
from fastmf.model.state import State, held


class OnFirstUse:
    """An attribute that is read from the model's file, checked and then kept.

    Two threads may both read it; either result will do.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, model: Any, _: Any = None) -> Any:
        if model is None:
            return self
        return model.__dict__.setdefault(self._name, held(model.__dict__["_read"](self._name)))


class Mapped(State):
    """The data of a model in a file; what is made of it, such as by a fold-in, is a whole ``of_memory``."""

    of_memory: type[State] = State

    def __new__(cls, **values: Any) -> Any:
        """Make a model in memory of a mapped one's changed fields, for :func:`dataclasses.replace` and pickle."""
        return cls.of_memory(**values) if values else super().__new__(cls)

    @classmethod
    def of(cls, path: Any) -> Any:
        """Map the model in a file; see :meth:`fastmf.Model.load`."""
        plain, read = map_model(path)
        model = super().__new__(cls)
        model.__dict__.update({name: held(value) for name, value in plain.items()}, _read=read)
        return model


for _name in LARGE:
    setattr(Mapped, _name, OnFirstUse(_name))
