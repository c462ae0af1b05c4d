"""Who may import whom, and how big things may get: read from the sources, nothing is run."""

import ast
import importlib
import importlib.util
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import fastmf.kernels

ROOT = Path(fastmf.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# One total order: a part may import those before it. A new part gets its place here.
ORDER = [
    "errors",
    "text",
    "epoch",
    "files",
    "kernels",
    "resources",
    "device",
    "runtime",
    "machine",
    "grouping",
    "tables",
    "writing",
    "ids",
    "values",
    "ratings",
    "extras",
    "model_file",
    "ranking",
    "folding",
    "explaining",
    "uncertainty",
    "fitted",
    "listing",
    "model",
    "metrics",
    "evaluation",
    "blending",
    "splitting",
    "solvers",
    "task",
    "checkpoint",
    "training",
    "tuning",
    "datasets",
    "precompile",
    "bench",
    "cli",
]
EXEMPT = {"__init__", "__main__"}  # of the package itself: they name things, and start the command line

FRAMES = {"tables", "writing", "ids", "ratings", "model_file", "fitted", "listing", "model", "splitting"}
ONLY_IN = {
    "pandas": FRAMES,
    "pyarrow": {*FRAMES, "values"},
    "click": {"cli"},
    "rich": {"cli"},
}
IN_KERNELS = {"numba", "numpy", "typing", "math", "itertools"}
# what the compiler and its cache, and the vectors, are made of
UNDER_KERNELS = {
    "contextlib",
    "functools",
    "hashlib",
    "importlib",
    "llvmlite",
    "logging",
    "os",
    "pathlib",
    "platform",
    "stat",
}
FORBIDDEN_MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
MAX_FILE, MAX_FUNCTION = 450, 40


def relative(path):
    return str(path.relative_to(ROOT.parent))


def part(path):
    """The part a file belongs to: the first folder or file under fastmf/."""
    return path.relative_to(ROOT).with_suffix("").parts[0]


def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path):
    """Full dotted names of all a file imports, wherever in it, with the line."""
    package = path.relative_to(ROOT.parent).parent.parts
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            base = ".".join(filter(None, (base, node.module)))
            for alias in node.names:
                yield f"{base}.{alias.name}", node.lineno


def is_part(name):
    return bool(name) and ((ROOT / name).is_dir() or (ROOT / f"{name}.py").is_file())


def parts_imported(path):
    """The parts of fastmf a file imports or names as ``fastmf.fit``, with the line; the version is nobody's part."""
    names = list(imported(path))
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "fastmf":
            names.append((f"fastmf.{node.attr}", node.lineno))
    for name, line in names:
        package, _, rest = name.partition(".")
        word = rest.split(".")[0]
        if package == "fastmf" and is_part(word):
            yield word, line
        elif package == "fastmf" and word in fastmf._HOME:
            yield fastmf._HOME[word].split(".")[1], line


def kernel_tables():
    """Every kernel table, by name: a dict of device names in a module of fastmf.kernels."""
    for module in pkgutil.iter_modules(fastmf.kernels.__path__, "fastmf.kernels."):
        if module.name.endswith("_cuda"):  # holds no tables, and needs what not everybody has
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if name.isupper() and isinstance(value, dict) and {"numpy", "cpu", "cuda"} & set(value):
                yield pytest.param(value, id=f"{module.name.rpartition('.')[2]}.{name}")


def unlisted():
    return [path for path in FILES if part(path) not in ORDER and part(path) not in EXEMPT]


def test_every_part_has_its_place_in_the_order():
    assert not unlisted(), "put the new parts into ORDER"


@pytest.mark.parametrize("path", [p for p in FILES if part(p) in ORDER], ids=relative)
def test_imports_go_downwards_only(path):
    own = ORDER.index(part(path))
    upwards = [
        f"line {line} imports {name}"
        for name, line in parts_imported(path)
        if name != part(path) and (name not in ORDER or ORDER.index(name) > own)
    ]
    assert not upwards


@pytest.mark.parametrize("path", [p for p in FILES if part(p) == "kernels"], ids=relative)
def test_kernels_import_numba_numpy_errors_and_each_other_only(path):
    ours = ("fastmf.kernels.", "fastmf.errors.")
    names = [(name, line) for name, line in imported(path) if not name.startswith(ours)]
    allowed = IN_KERNELS | (UNDER_KERNELS if path.stem in ("compile", "vectors", "simd", "lanes") else set())
    allowed |= {"functools", "weakref"} if path.stem.endswith("_cuda") else set()
    assert [f"line {line}: {name}" for name, line in names if name.split(".")[0] not in allowed] == []


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_heavy_packages_stay_in_their_rooms(path):
    top_level = [(name.split(".")[0], line) for name, line in imported(path)]
    assert [f"line {line}: {n}" for n, line in top_level if n in ONLY_IN and part(path) not in ONLY_IN[n]] == []


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_no_pickle_eval_or_exec(path):
    found = [f"line {line}: {name}" for name, line in imported(path) if name.split(".")[0] in FORBIDDEN_MODULES]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
            found.append(f"line {node.lineno}: {node.func.id}()")
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            found.append(f"line {node.value.lineno}: allow_pickle")
    assert found == []


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_every_file_says_what_it_is(path):
    assert ast.get_docstring(tree(path))


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_files_stay_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_FILE


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_functions_stay_short(path):
    long = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            docstring = first.end_lineno - first.lineno + 1 if ast.get_docstring(node, clean=False) is not None else 0
            lines = node.end_lineno - node.lineno + 1 - docstring
            if lines > MAX_FUNCTION:
                long.append(f"{node.name} has {lines} lines")
    assert long == []


@pytest.mark.parametrize("table", list(kernel_tables()))
def test_kernels_of_a_table_have_one_signature(table):
    assert {"numpy", "cpu"} <= set(table)
    if "cuda" in table and importlib.util.find_spec("numba_cuda") is None:
        table = {device: kernel for device, kernel in table.items() if device != "cuda"}
    found = {device: getattr(kernel, "found", lambda kernel=kernel: kernel)() for device, kernel in table.items()}
    parameters = {device: list(inspect.signature(kernel).parameters) for device, kernel in found.items()}
    assert all(names == parameters["numpy"] for names in parameters.values()), parameters


def test_there_are_kernel_tables():
    assert len(list(kernel_tables())) >= 8


def test_the_checks_see_what_they_look_for():
    cli, model = (ROOT / name for name in ("cli/fit.py", "model.py"))
    assert "solvers" in {name for name, _ in parts_imported(cli)}  # imported inside a function
    assert {"ids", "ranking", "runtime"} <= {name for name, _ in parts_imported(model)}  # from fastmf import …
    assert {"pandas", "pyarrow"} <= {name for name, _ in imported(model)}


# Settings whose default the help does not say: --no-biases; what follows from the data; flags; none.
UNSAID = {"biases", "bins", "adaptive", "links", "positive_from"}


def test_the_command_line_offers_every_solver_with_its_defaults():
    from dataclasses import fields

    from fastmf.cli.bench import bench
    from fastmf.cli.fit import fit
    from fastmf.solvers import SOLVERS

    options = {option.name: option for option in fit.params}
    assert list(options["solver"].type.choices) == list(SOLVERS)
    measured = set({option.name: option for option in bench.params}["solvers"].type.choices)
    assert set(SOLVERS) - {"implicit"} <= measured  # that one ranks: benchmarks/ranking.py
    for name, solver in SOLVERS.items():
        for field in fields(solver):
            if field.name in UNSAID:
                continue
            said = options[field.name].help
            default = f"{field.default:g}" if isinstance(field.default, float) else str(field.default)
            for_all = re.search(rf"\[default: {re.escape(default)}[],]", said)
            assert f"{name} {default}" in said or for_all, (name, field.name, said)
