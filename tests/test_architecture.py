"""Who may import whom, and how big things may get: read from the sources, nothing is run."""

import ast
import importlib
import importlib.util
import inspect
import pkgutil
from pathlib import Path

import pytest

import fastmf.kernels

ROOT = Path(fastmf.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# One total order of the packages: each may import those before it.
ORDER = [
    "errors",
    "kernels",
    "runtime",
    "data",
    "datasets",
    "model",
    "solvers",
    "evaluation",
    "training",
    "cluster",
    "sklearn",
    "bench",
    "reporting",
    "cli",
]
# A method that people look for on a model, though what it does comes last: it is imported when it is called.
UPWARDS = {
    ("model", "fastmf.reporting.report.write_report"),
    ("training", "fastmf.cluster.fit.fit_on_cluster"),
}
AT_THE_TOP = {"__init__", "__main__", "errors"}

ONLY_IN = {
    "pandas": {"data", "model"},
    "pyarrow": {"data", "model"},
    "click": {"cli"},
    "rich": {"cli"},
    "sklearn": {"sklearn"},
    "llvmlite": {"kernels", "bench"},
    "matplotlib": {"reporting"},
    "jinja2": {"reporting"},
    "distributed": {"cluster"},
    "dask": {"cluster"},
}
IN_KERNELS = {"numba", "numpy", "typing", "math", "itertools"}
# The compiler, its cache and the vectors need more.
UNDER_KERNELS = {
    "contextlib",
    "functools",
    "hashlib",
    "importlib",
    "inspect",
    "llvmlite",
    "logging",
    "os",
    "pathlib",
    "platform",
}
UNDER_KERNELS |= {"stat"}
FORBIDDEN_MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
MAX_FILE, MAX_FUNCTION = 450, 40


def package(path):
    """Return the package a file belongs to: the first folder or file below fastmf/."""
    return path.relative_to(ROOT).with_suffix("").parts[0]


def module(path):
    """Return the dotted name of a file below fastmf/: "data.ids"; a package's own is its name."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module(path): path for path in FILES}
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


def imported(path):
    """Yield the full dotted name of everything a file imports, wherever in it, with the line."""
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            for alias in node.names:
                if (package(path), f"{node.module}.{alias.name}") not in UPWARDS:
                    yield f"{node.module}.{alias.name}", node.lineno


def modules_imported(path):
    """Yield the modules of fastmf that a file imports, or names as in ``fastmf.fit``, with the line."""
    names = list(imported(path))
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "fastmf":
            names.append((f"fastmf.{node.attr}", node.lineno))
    for name, line in names:
        head, _, rest = name.partition(".")
        if head != "fastmf" or not rest:
            continue
        home = fastmf._HOME.get(rest)
        if home is not None:
            rest = home.removeprefix("fastmf.")
        parts = rest.split(".")
        known = [".".join(parts[:n]) for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in MODULES]
        if known:
            yield known[0], line


def offences(check, files=FILES):
    """List what a check finds in the files: "path: what" for each."""
    return [f"{path.relative_to(ROOT.parent)}: {found}" for path in files for found in check(path)]


def functions(path):
    return [node for node in ast.walk(TREES[path]) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_only_names_and_errors_stand_at_the_top():
    assert {path.stem for path in ROOT.glob("*.py")} == AT_THE_TOP
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert folders == set(ORDER) - {"errors"}, "give each new package its place in ORDER"


def test_imports_go_downwards_only():
    def upwards(path):
        own = ORDER.index(package(path))
        for name, line in modules_imported(path):
            other = name.split(".")[0]
            if other != package(path) and ORDER.index(other) > own:
                yield f"line {line} imports {name}"

    assert offences(upwards, [path for path in FILES if package(path) in ORDER]) == []


def test_inside_a_package_imports_go_one_way():
    graph = {name: {other for other, _ in modules_imported(path)} - {name} for name, path in MODULES.items() if name}
    graph = {name: {other for other in others if other in graph} for name, others in graph.items()}
    while graph:
        free = {name for name, others in graph.items() if not others}
        assert free, f"imports in a circle among {sorted(graph)}"
        graph = {name: others - free for name, others in graph.items() if name not in free}


def test_a_package_does_not_gather_names_of_its_modules():
    # No re-exports to save a move: a name has one home. solvers/__init__ holds the table of solvers, and
    # fastmf.sklearn is a public name, as fastmf itself is.
    def gathered(path):
        names = [name for name, _ in modules_imported(path)]
        yield from (name for name in names if path.parent.name not in ("solvers", "sklearn"))

    assert offences(gathered, [path for path in ROOT.glob("*/__init__.py") if path.parent.name != "cli"]) == []


def test_kernels_import_numba_numpy_errors_and_each_other_only():
    def strangers(path):
        allowed = IN_KERNELS | (
            UNDER_KERNELS if path.stem in ("compile", "vectors", "region", "simd", "lanes") else set()
        )
        allowed |= {"functools", "weakref"} if path.stem.endswith("_cuda") else set()
        allowed |= {"importlib"} if path.stem == "__init__" else set()
        for name, line in imported(path):
            if not name.startswith(("fastmf.kernels.", "fastmf.errors.")) and name.split(".")[0] not in allowed:
                yield f"line {line}: {name}"

    assert offences(strangers, [path for path in FILES if package(path) == "kernels"]) == []


def test_heavy_packages_stay_in_their_rooms():
    def misplaced(path):
        for name, line in imported(path):
            room = ONLY_IN.get(name.split(".")[0])
            if room is not None and package(path) not in room:
                yield f"line {line}: {name}"

    assert offences(misplaced) == []


def test_no_pickle_eval_or_exec():
    def dangerous(path):
        yield from (f"line {line}: {name}" for name, line in imported(path) if name.split(".")[0] in FORBIDDEN_MODULES)
        for node in ast.walk(TREES[path]):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
                yield f"line {node.lineno}: {node.func.id}()"
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                yield f"line {node.value.lineno}: allow_pickle"

    assert offences(dangerous) == []


def test_solvers_are_known_by_what_they_say_of_themselves():
    # Outside solvers/ nobody asks for a solver's name, or guesses its nature from the names of its settings.
    names = {"als", "als-links", "sgd", "gibbs", "implicit"}
    settings = {"alpha0", "lr", "method", "links", "loss", "schedule", "positive_from", "negative_to"}

    def guesses(path):
        for node in ast.walk(TREES[path]):
            if isinstance(node, ast.Compare):
                sides = [node.left, *node.comparators]
                flat = [e for side in sides for e in (side.elts if isinstance(side, ast.Tuple | ast.List) else [side])]
                texts = {e.value for e in flat if isinstance(e, ast.Constant) and isinstance(e.value, str)}
                yield from (f"line {node.lineno} compares with {text!r}" for text in sorted(texts & (names | settings)))

    assert offences(guesses, [path for path in FILES if package(path) not in ("solvers", "kernels")]) == []


def test_every_file_says_what_it_is():
    assert [path for path in FILES if not ast.get_docstring(TREES[path])] == []


def test_files_and_functions_stay_short():
    def long(path):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > MAX_FILE:
            yield f"{lines} lines"
        for node in functions(path):
            first = node.body[0]
            docstring = first.end_lineno - first.lineno + 1 if ast.get_docstring(node, clean=False) is not None else 0
            lines = node.end_lineno - node.lineno + 1 - docstring
            if lines > MAX_FUNCTION:
                yield f"{node.name} has {lines} lines"

    assert offences(long) == []


def kernel_tables():
    """Yield every kernel table, by name: a dict of device names in a module of fastmf.kernels."""
    for found in pkgutil.iter_modules(fastmf.kernels.__path__, "fastmf.kernels."):
        if found.name.endswith("_cuda"):  # holds no tables, and needs what not everybody has
            continue
        for name, value in vars(importlib.import_module(found.name)).items():
            if name.isupper() and isinstance(value, dict) and {"numpy", "cpu", "cuda"} & set(value):
                yield pytest.param(value, id=f"{found.name.rpartition('.')[2]}.{name}")


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
    assert "solvers" in {name.split(".")[0] for name, _ in modules_imported(MODULES["cli.fit"])}  # inside a function
    assert {"data.ids", "model.growing"} <= {name for name, _ in modules_imported(MODULES["model.model"])}
    assert {"pandas", "pyarrow"} <= {name.split(".")[0] for name, _ in imported(MODULES["data.ids"])}


def calls_of_blas(tree):
    """The lines with a matrix product or a factorisation of NumPy's, but for the name of its error."""
    for node in ast.walk(tree):
        product = isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult)
        linalg = (
            isinstance(node, ast.Attribute) and ast.unparse(node.value) == "np.linalg" and node.attr != "LinAlgError"
        )
        if product or linalg:
            yield node.lineno


@pytest.mark.parametrize("package", ["solvers", "training", "model/fold_in.py", "model/frame.py"])
def test_fits_leave_blas_alone(package):
    """BLAS ignores ``threads=``, and its threads stall beside a busy process: kernels/dense takes its place."""
    place = ROOT / package
    paths = [place] if place.is_file() else sorted(place.glob("*.py"))
    assert paths
    for path in paths:
        assert not list(calls_of_blas(ast.parse(path.read_text(encoding="utf-8")))), path
