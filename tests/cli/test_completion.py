"""Completion in shells: commands, options, choices and files, as click's scripts ask for them."""

import os
import shutil
import subprocess
import sys

import pytest

from fastmf.cli import COMMANDS

PROGRAM = "import sys; sys.argv[0] = 'fastmf'; from fastmf.cli import main; main()"
UTF8 = {"PYTHONUTF8": "1"}


def complete(*words, shell="bash"):
    """Return what a shell is told for the last of these words."""
    asked = {"COMP_WORDS": " ".join(["fastmf", *words]), "COMP_CWORD": str(len(words))}
    if shell == "fish":
        asked["COMP_CWORD"] = words[-1]
    environment = {**os.environ, **UTF8, **asked, "_FASTMF_COMPLETE": f"{shell}_complete"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1] if done.stdout.strip() else []


def test_commands_complete():
    assert complete("") == [f"plain,{name}" for name in sorted(command.name for command in COMMANDS)]
    assert complete("s") == ["plain,similar", "plain,split", "plain,synth"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["fit", "r.parquet", "--min-"], ["--min-user-ratings", "--min-item-ratings"]),
        (["fit", "--link-"], ["--link-reg", "--link-steps"]),  # a setting, made from the solvers
        (["fit", "--solver", "als"], ["als", "als-links"]),
        (["recommend", "m.fastmf", "--rank-by", ""], ["choice", "rating", "blend"]),
    ],
    ids=lambda words: " ".join(words),
)
def test_options_and_their_choices_complete(words, expected):
    assert complete(*words) == [f"plain,{word}" for word in expected]


@pytest.mark.parametrize(
    "words",
    [
        ["fit", "rat"],
        ["fit", "r.parquet", "--validation", "held"],
        ["fit", "r.parquet", "-o", "m"],
        ["recommend", "m.fastmf", "--titles", "t"],
        ["predict", "m.fastmf", "pai"],
        ["update", "m.fastmf", "new.parquet", "--ratings", "r"],
    ],
    ids=" ".join,
)
def test_files_are_left_to_the_shell(words):
    assert complete(*words) == [f"file,{words[-1]}"]


@pytest.mark.parametrize(
    "words",
    [["similar", "m.fastmf", "3"], ["fit", "r.parquet", "--user", "u"], ["recommend", "m.fastmf", "--user", "4"]],
)
def test_ids_and_columns_do_not_complete_to_files(words):
    assert complete(*words) == []


def test_other_shells_are_served():
    assert complete("simi", shell="zsh")[:2] == ["plain", "similar"]
    assert complete("simi", shell="fish")[0].startswith("plain")


@pytest.mark.skipif(shutil.which("bash") is None or os.name == "nt", reason="needs bash")
def test_bash_completes_with_the_line_of_the_documents(tmp_path):
    script = tmp_path / "fastmf"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{PROGRAM}" "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    lines = [
        'eval "$(_FASTMF_COMPLETE=bash_source fastmf)"',
        "COMP_WORDS=(fastmf rec) COMP_CWORD=1",
        "_fastmf_completion fastmf",
        'echo "${COMPREPLY[@]}"',
    ]
    environment = {**os.environ, **UTF8, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    bash = ["bash", "--norc", "-c", "\n".join(lines)]
    done = subprocess.run(bash, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "recommend\n", done.stderr
