"""What holds for the package as a whole."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import rdtf

PACKAGE = Path(rdtf.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))

# Anything that can run code, or read more than data, when a file is loaded.
FORBIDDEN = {
    "pickle": r"\b(c?pickle|cloudpickle|dill|joblib|shelve|marshal)\b",
    "torch.load": r"\btorch\.load\b",
    "eval or exec": r"(?<![\w.])(eval|exec)\(",
    "yaml.load": r"\byaml\.(unsafe_|full_)?load\b",
    "allow_pickle": r"allow_pickle\s*=\s*True",
    "shell": r"shell\s*=\s*True|os\.system\(",
    "trust_remote_code": r"trust_remote_code\s*=\s*True",
}


@cache
def code_of(path: Path) -> str:
    """The source without its docstrings and comments, which may name what is not done."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = ""
    return ast.unparse(tree)


def test_there_are_sources():
    assert len(SOURCES) > 80


@pytest.mark.parametrize("what", FORBIDDEN)
def test_nothing_that_could_run_what_it_loads(what):
    found = [path for path in SOURCES if re.search(FORBIDDEN[what], code_of(path))]
    assert not found


def test_one_module_loads_weights():
    """It takes safetensors only and gives weights memory of their own; others ask it to."""
    weights = re.compile(
        r"safetensors\.torch import .*\b(load_file|load_model|load)\b|\bsafe_open\b"
        r"|(?<!super\(\))(?<!\bStickerPipeline)\.from_pretrained\("
    )
    found = [path for path in SOURCES if weights.search(code_of(path))]
    assert [path.relative_to(PACKAGE).as_posix() for path in found] == ["models/loading.py"]


def test_no_file_is_too_long():
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in SOURCES}
    assert {path: n for path, n in lengths.items() if n > 500} == {}


def test_annotations_are_lazy_and_public_modules_say_what_they_are():
    for path in SOURCES:
        tree = ast.parse(path.read_text("utf-8"))
        if path.name != "__init__.py":
            assert ast.get_docstring(tree), path
            assert "from __future__ import annotations" in path.read_text("utf-8"), path


def test_lazy_attributes():
    for name in rdtf.__all__:
        assert getattr(rdtf, name).__name__ == name
    assert re.fullmatch(r"\d+\.\d+\.\d+", rdtf.__version__)
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = rdtf.Nonsense


def test_importing_the_package_imports_nothing_heavy():
    heavy = {"torch", "numpy", "diffusers", "PIL"}
    code = f"import rdtf, sys; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
