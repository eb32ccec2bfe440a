"""The docs speak of files, commands and options that are there."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from rdtf.training.config import override
from rdtf.training.cost import training_flops
from rdtf.training.presets import PRESETS, preset

H100_BF16_FLOPS = 989.4e12  # dense, by its data sheet
ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("integrations/**/*.md")])


def _load_cli_page() -> Any:
    spec = importlib.util.spec_from_file_location("docs_cli", ROOT / "docs" / "cli.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


cli_page = _load_cli_page()


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(text: str) -> str:
    """Without code blocks."""
    return re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)


@cache
def headings(path: Path) -> set[str]:
    """Anchors of a page, as its headings make them."""
    found = re.findall(r"^#+ (.+)$", prose(path.read_text("utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in found}


# ------------------------------------------------------------------------------------ links


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_and_pictures_are_there(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text("utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), f"{name(page)} links to {target}"
        assert path.is_relative_to(ROOT)
        if anchor:
            assert anchor in headings(path), f"{name(page)} links to {target}"


def test_pictures_are_small():
    sizes = {path.name: path.stat().st_size for path in ROOT.glob("docs/images/*.*")}
    assert len(sizes) >= 6
    assert {file: size for file, size in sizes.items() if size > 205_000} == {}


def test_every_page_is_in_the_menu_and_nothing_is_loaded_from_elsewhere():
    settings = (ROOT / "mkdocs.yml").read_text("utf-8")
    for page in re.findall(r": ([\w-]+\.md)$", settings, re.M):
        assert (ROOT / "docs" / page).is_file(), page
    assert "font: false" in settings
    assert not re.search(r"https?://", re.sub(r"^#.*$", "", settings, flags=re.M))
    assert not re.search(r"!\[[^]]*\]\(https?:", "".join(p.read_text("utf-8") for p in PAGES))


# --------------------------------------------------------------------------------- commands


@cache
def known_options() -> dict[str, set[str]]:
    """Every command's options, as its `--help` lists them."""
    return {
        help_.command: {"--help", *(s for option in help_.options for s in option.spellings)}
        for help_ in cli_page.all_helps()
    }


def commands_in(text: str) -> Iterator[list[str]]:
    """Every `rdtf …` in code blocks, and those within a line that name an option or a file."""
    blocks = re.findall(r"^```(?:sh|bash|console)?\n(.*?)^```", text, re.M | re.S)
    blocks += re.findall(r"(?:^    \S.*\n)+", text, re.M)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    for line in [*lines, *re.findall(r"`(rdtf [^`]+)`", text)]:
        line = line.strip().replace("python -m rdtf.cli.main", "rdtf")
        found = re.match(r"(?:.*\s-m rdtf\.cli\.main|(?:\.venv/bin/)?rdtf|\$ rdtf) (.+)", line)
        if found:
            yield shlex.split(found.group(1).replace("…", ""), comments=True)


def check_command(words: list[str]) -> str | None:
    """What is wrong with it, if anything."""
    command = "rdtf"
    rest = ["nano" if word in PRESETS else word for word in words]  # they have the same options
    while rest and f"{command} {rest[0]}" in known_options():
        command = f"{command} {rest.pop(0)}"
    is_group = any(other.startswith(f"{command} ") for other in known_options())
    if is_group and rest and re.fullmatch(r"[a-z-]+", rest[0]):
        return f"no command {command} {rest[0]}"
    for word in rest:
        option = word.split("=")[0]
        if re.fullmatch(r"--?[a-z][a-z.-]*", option) and option not in known_options()[command]:
            return f"{command} has no {option}"
    return None


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_and_options_exist(page):
    commands = list(commands_in(page.read_text("utf-8")))
    problems = [problem for words in commands if (problem := check_command(words))]
    assert problems == []
    if page.name in ("make.md", "start.md", "cli.md", "train-your-own.md"):
        assert commands


def test_wrong_commands_are_noticed():
    text = """
```sh
rdtf generate "a --cat" --image x.png -o y.webp   # --not-an-option
rdtf generat "a cat"
rdtf fill x.gif --knwon 0
torchrun -m rdtf.cli.main train nano --dta DATA
```
and `rdtf data prepare A B --workers 3`, `rdtf data preprae`, `rdtf predict --before 2 --behind 1`
"""
    problems = [check_command(words) for words in commands_in(text)]
    assert problems == [
        None,
        "no command rdtf generat",
        "rdtf fill has no --knwon",
        "rdtf train nano has no --dta",
        None,
        "no command rdtf data preprae",
        "rdtf predict has no --behind",
    ]


def test_the_command_reference_is_current():
    """If not: python docs/cli.py."""
    assert (ROOT / "docs" / "cli.md").read_text("utf-8") == cli_page.page()


def test_the_command_reference_has_every_option_with_a_text():
    helps = {help_.command: help_ for help_ in cli_page.all_helps()}
    assert {"rdtf train nano", "rdtf data synth", "rdtf generate", "rdtf export"} <= set(helps)
    for help_ in helps.values():
        assert help_.paragraphs[0]
        assert all(option.text for option in help_.options), help_.command
    options = {spelling for o in helps["rdtf generate"].options for spelling in o.spellings}
    assert {"--model", "-o", "--out", "--loop", "--seed", "--json"} <= options


# --------------------------------------------------------------------------------- Python


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_examples_compile_and_import_what_is_there(page):
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.M | re.S):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rdtf"):
                module = __import__(node.module or "", fromlist=["_"])
                for alias in node.names:
                    assert getattr(module, alias.name)


def test_the_python_reference_names_what_is_there():
    text = (ROOT / "docs" / "api.md").read_text("utf-8")
    for target in re.findall(r"^::: (\S+)$", text, re.M):
        module, _, attribute = target.rpartition(".")
        try:
            importlib.import_module(target)
        except ImportError:
            assert getattr(importlib.import_module(module), attribute), target


def test_the_method_page_tells_the_loss_of_the_presets():
    text = (ROOT / "docs" / "method.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\w+), (.*?) \| (.*?) \| (.*?) \| (\w+) \|$", text, re.M)
    assert [row[0] for row in rows] == list(PRESETS)
    for name, prediction, process, levels, floor, motion in rows:
        config = PRESETS[name]
        objective = config.objective
        assert (prediction, motion) == (objective.prediction, config.model.motion)
        assert float(floor) == config.relative_loss_floor
        assert process == objective.kind + (f", shift {objective.shift:g}" * (objective.shift != 1))
        if objective.kind == "flow":
            assert levels == f"{objective.logit_mean}, {objective.logit_std}"
        else:
            assert levels == f"uniform over {objective.num_train_timesteps} steps"


@pytest.mark.parametrize("page", ["README.md", "docs/train-your-own.md"])
@pytest.mark.parametrize("preset_name", ["mini", "base"])
def test_times_that_were_computed_are_those_that_are_computed(page, preset_name):
    """And the page says so: no GPU has run them."""
    config = override(preset(preset_name), {"engine.precision": "bf16"})
    flops = training_flops(config, config.max_frames, config.batch_size)
    flops *= 4 / 3 if config.engine.gradient_checkpointing else 1
    seconds = config.steps * flops / (H100_BF16_FLOPS * 0.3)
    told = {"mini": f"{seconds / 60:.0f} min", "base": f"{seconds / 86400:.1f} days"}[preset_name]
    text = (ROOT / page).read_text("utf-8")
    assert told in text and "computed" in text.lower()


@pytest.mark.slow
def test_the_figures_can_be_drawn(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    importlib.import_module("figures").main(["--steps", "4", "--out", str(tmp_path)])
    drawn = {path.name for path in tmp_path.iterdir()}
    names = ("tasks", "windows", "motion", "noise", "curriculum", "sti")
    assert drawn == {f"{name}.png" for name in names}
    assert all((ROOT / "docs" / "images" / file).is_file() for file in drawn)


# ------------------------------------------------------------------------------ architecture


def test_the_files_that_the_architecture_page_names_are_there():
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    named = set(re.findall(r"`([a-z_]+/[a-z_/]*(?:\.py)?)`", text))
    assert len(named) > 30
    assert not [path for path in named if not (ROOT / "src" / "rdtf" / path).exists()]


def test_the_architecture_page_shows_the_layers_that_are_checked():
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    shown = [
        re.split(r"  +", line.replace("|", "  ")) for line in text.split("```")[1].splitlines()
    ]
    config = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    layers = config["tool"]["importlinter"]["contracts"][0]["layers"]
    expected = [
        [part.strip().removeprefix("rdtf.") for part in layer.split("|")] for layer in layers
    ]
    found = [[word for word in row if word] for row in shown if any(row)]
    for layer, row in zip(expected, found, strict=True):
        assert row[: len(layer)] == layer


def test_size_of_the_model_that_ships():
    weights = ROOT / "src" / "rdtf" / "weights"
    megabytes = sum(file.stat().st_size for file in weights.rglob("*") if file.is_file()) / 1e6
    parameters = 0
    for file in weights.rglob("compact.safetensors"):
        with safe_open(file, "pt") as stored:
            shapes = {key: stored.get_slice(key).get_shape() for key in stored.keys()}  # noqa: SIM118
        parameters += sum(prod(shape) for key, shape in shapes.items() if not key.endswith("scale"))
    said = re.search(r"(\d+) M parameters in (\d+) MB", (ROOT / "README.md").read_text("utf-8"))
    assert said is not None and said[1] == f"{parameters / 1e6:.0f}"
    card = re.search(r"`src/rdtf/weights`, (\d+) MB", (ROOT / "docs/model.md").read_text("utf-8"))
    assert card is not None and said[2] == card[1] == f"{megabytes:.0f}"
