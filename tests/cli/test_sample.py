from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rdtf.stickers import Sticker
from stickers.samples import clip

from .conftest import content
from .files import bomb, truncated_gif, web_page

FAST = ("--steps", 2)


@pytest.fixture
def sticker(tmp_path: Path) -> Path:
    """Four frames of 32 pixels: the canvas of the model."""
    return clip(4, 32, 90).save(tmp_path / "in" / "disc.webp")


def visible(sticker: Sticker) -> np.ndarray:
    return np.where(sticker.frames[..., 3:] > 0, sticker.frames, 0)


# ------------------------------------------------------------------------ the commands


def test_generate_from_text(rdtf, tiny_run, tmp_path):
    out = tmp_path / "deep" / "cat.webp"
    ended = rdtf(
        *("generate", "a cat waves", "--model", tiny_run, "-o", out, *FAST),
        *("--frames", 3, "--duration-ms", 70, "--json"),
    )
    assert ended.status == 0 and not ended.err
    assert ended.json == {"path": str(out), "num_frames": 3, "total_ms": 210}
    made = Sticker.load(out)
    assert (made.num_frames, made.width, made.total_ms) == (3, 32, 210)
    assert [path.name for path in out.parent.iterdir()] == ["cat.webp"]


def test_generate_from_a_still(rdtf, tiny_run, sticker, tmp_path):
    still = Sticker.load(sticker).select([2])
    path = still.save(tmp_path / "in" / "still.png")
    out = tmp_path / "out.png"
    ended = rdtf(
        *("generate", "--image", path, "--image-index", 1, "--frames", 3, *FAST),
        *("--model", tiny_run / "pipeline", "-o", out),
    )
    assert ended.status == 0 and not ended.err
    assert "3 frames, 32 px, 300 ms" in ended.out
    assert np.array_equal(visible(Sticker.load(out))[1], visible(still)[0])


def test_the_seed_settles_the_result(rdtf, tiny_run, tmp_path):
    data = []
    for name, seed in (("a", 5), ("b", 5), ("c", -5)):
        out = tmp_path / f"{name}.webp"
        command = ("generate", "a cat", "--model", tiny_run, "-o", out, "--seed", seed)
        assert rdtf(*command, *FAST).status == 0
        data.append(out.read_bytes())
    assert data[0] == data[1] != data[2]


def test_interpolate(rdtf, tiny_run, sticker, tmp_path):
    out = tmp_path / "smooth.webp"
    ended = rdtf(
        *("interpolate", sticker, "--factor", 3, "--model", tiny_run, "-o", out, *FAST, "--json")
    )
    assert ended.status == 0 and ended.json["num_frames"] == 10
    given, made = Sticker.load(sticker), Sticker.load(out)
    assert made.total_ms == given.total_ms == ended.json["total_ms"]
    assert np.array_equal(visible(made)[::3], visible(given))


def test_predict(rdtf, tiny_run, sticker, tmp_path):
    out = tmp_path / "longer.webp"
    ended = rdtf(
        *("predict", sticker, "--after", 3, "--before", 1, "--prompt", "a disc rolls"),
        *("--model", tiny_run, "-o", out, *FAST, "--json"),
    )
    assert ended.status == 0 and ended.json["num_frames"] == 8
    assert np.array_equal(visible(Sticker.load(out))[1:5], visible(Sticker.load(sticker)))


LOOPS = {
    "generate": ("a cat", "--frames", 6),
    "interpolate": ("{sticker}",),
    "predict": ("{sticker}", "--after", 2),
    "fill": ("{sticker}", "--known", "0,1", "--frames", 6),
}


@pytest.mark.parametrize("command", LOOPS)
def test_loops_tell_their_seam(rdtf, tiny_run, sticker, tmp_path, command):
    out = tmp_path / "loop.webp"
    arguments = [str(part).format(sticker=sticker) for part in LOOPS[command]]
    arguments += ["--model", tiny_run, "-o", out, "--loop"]
    ended = rdtf(command, *arguments, *FAST, "--json")
    assert ended.status == 0 and not ended.err
    made = Sticker.load(out)
    assert ended.json["num_frames"] == made.num_frames == (8 if command == "interpolate" else 6)
    assert ended.json["seam_error"] == pytest.approx(made.seam_error(), abs=6e-4)
    assert f"seam error {ended.json['seam_error']}" in rdtf(command, *arguments, *FAST).out


def test_fill(rdtf, tiny_run, sticker, tmp_path):
    out = tmp_path / "filled.webp"
    command = ("fill", sticker, "--known", "0, 2", "--model", tiny_run, "-o", out, *FAST)
    ended = rdtf(*command, "--json", "--sheet", tmp_path / "sheet.png")
    assert ended.status == 0 and ended.json["num_frames"] == 4
    given, made = visible(Sticker.load(sticker)), visible(Sticker.load(out))
    assert np.array_equal(made[[0, 2]], given[[0, 2]])
    assert not np.array_equal(made[[1, 3]], given[[1, 3]])
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 4 * 32


def test_fill_places_key_frames(rdtf, tiny_run, sticker, tmp_path):
    out = tmp_path / "filled.webp"
    command = ("fill", sticker, "--known", "0,2,4,6", "--frames", 8, "--model", tiny_run)
    assert rdtf(*command, "-o", out, *FAST).status == 0
    given, made = visible(Sticker.load(sticker)), visible(Sticker.load(out))
    assert np.array_equal(made[[0, 2, 4, 6]], given)


def test_the_size_of_the_input_can_be_kept(rdtf, tiny_run, tmp_path):
    sticker = clip(3, 50)
    path = sticker.save(tmp_path / "in.webp")
    out = tmp_path / "out.webp"
    command = ("fill", path, "--known", "0,2", "--model", tiny_run, "-o", out, *FAST)
    assert rdtf(*command, "--size", "input").status == 0
    made = Sticker.load(out)
    assert made.width == 50
    assert np.array_equal(visible(made)[[0, 2]], visible(sticker)[[0, 2]])


@pytest.mark.parametrize("suffix", [".webp", ".gif", ".apng", ".png", ".webm", ".GIF"])
def test_every_format_can_be_written(rdtf, tiny_run, tmp_path, suffix):
    out = tmp_path / f"cat{suffix}"
    command = ("generate", "a cat", "--frames", 3, "--model", tiny_run, "-o", out)
    assert rdtf(*command, *FAST).status == 0
    assert Sticker.load(out).num_frames >= 1


# ----------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("make", "message"),
    [(truncated_gif, "cut off"), (web_page, "web page"), (bomb, "pixels in all frames")],
)
@pytest.mark.parametrize("command", ["interpolate", "predict", "fill", "generate"])
def test_files_that_cannot_be_used(refused, tiny_run, tmp_path, command, make, message):
    path = make(tmp_path / ("x.webp" if make is bomb else "x.gif"))
    arguments = {
        "interpolate": (path,),
        "predict": (path, "--after", 2),
        "fill": (path, "--known", "0,2"),
        "generate": ("a cat", "--image", path),
    }[command]
    line = refused(command, *arguments, "--model", tiny_run, "-o", tmp_path / "out.webp")
    assert message in line and str(path) in line
    assert list(tmp_path.iterdir()) == [path]


GENERATE, FILL = ("generate", "a cat"), ("fill", "{sticker}")
MISTAKES = {
    "must end with one of": (*GENERATE, "-o", "{tmp}/cat.bmp"),
    "{file} can't be made": (*GENERATE, "-o", "{file}/cat.webp"),
    "is a folder": (*GENERATE, "-o", "{folder}"),
    "sheet.jpg must end": (*GENERATE, "-o", "{out}", "--sheet", "{tmp}/sheet.jpg"),
    "output folder {file}": (*GENERATE, "-o", "{out}", "--sheet", "{file}/sheet.png"),
    "nothing to start from": ("generate", "-o", "{out}"),
    "steps must be at least 1": (*GENERATE, "-o", "{out}", "--steps", "0"),
    "at least 1 frame": (*GENERATE, "-o", "{out}", "--frames", "0"),
    "at least 1 ms": (*GENERATE, "-o", "{out}", "--duration-ms", "0"),
    "lie in 0…2": (
        *(*GENERATE, "-o", "{out}", "--image", "{sticker}"),
        *("--frames", "3", "--image-index", "3"),
    ),
    "--known takes numbers": (*FILL, "-o", "{out}", "--known", "0;2"),
    "got '0,two'": (*FILL, "-o", "{out}", "--known", "0,two"),
    "got ''": (*FILL, "-o", "{out}", "--known", ""),
    "frame 9 can't be given": (*FILL, "-o", "{out}", "--known", "0,9"),
    "frame -1 can't be given": (*FILL, "-o", "{out}", "--known=-1,2"),
    "factor must be 2 or more": ("interpolate", "{sticker}", "-o", "{out}", "--factor", "1"),
    "how many frames to predict": ("predict", "{sticker}", "-o", "{out}"),
    "nothing.gif does not exist": ("interpolate", "{tmp}/nothing.gif", "-o", "{out}"),
    "holds no frames": ("interpolate", "{folder}", "-o", "{out}"),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes_are_one_line_and_change_nothing(refused, tiny_run, sticker, tmp_path, message):
    places = {
        "tmp": tmp_path,
        "sticker": sticker,
        "out": tmp_path / "out.webp",
        "file": tmp_path / "file",
        "folder": tmp_path / "folder.webp",
    }
    places["file"].write_text("in the way")
    places["folder"].mkdir()
    before = content(tmp_path)
    arguments = (argument.format(**places) for argument in MISTAKES[message])
    line = refused(*arguments, "--model", tiny_run)
    assert message.format(**places) in line
    assert content(tmp_path) == before


def test_models_that_cannot_be_loaded(refused, tiny_run, tmp_path):
    def line_for(model: Path) -> str:
        return refused("generate", "a cat", "--model", model, "-o", tmp_path / "out.webp")

    empty, fresh = tmp_path / "empty", tmp_path / "fresh"
    for folder in (empty, fresh):
        folder.mkdir()
    (fresh / "config.json").write_bytes((tiny_run / "config.json").read_bytes())
    before = content(tmp_path)
    assert "does not exist" in line_for(tmp_path / "nothing")
    assert "neither a run directory nor a saved pipeline" in line_for(empty)
    assert "has no checkpoint yet" in line_for(fresh)
    assert "no run directory" in line_for(tiny_run / "pipeline" / "denoiser")
    assert content(tmp_path) == before


EARLY = {
    "must be at most 4": ("generate", "a cat", "-o", "{tmp}/o.webp", "--motion-scale", "1e9"),
    "must be at least 0": ("generate", "a cat", "-o", "{tmp}/o.webp", "--motion-scale=-1"),
    "motion 'jmp' is unknown; did you mean jump": (
        *("generate", "a cat", "-o", "{tmp}/o.webp", "--motion", "jmp"),
    ),
    "nothing.gif does not exist": ("interpolate", "{tmp}/nothing.gif", "-o", "{tmp}/o.webp"),
    "fully transparent": ("generate", "--image", "{tmp}/empty.png", "-o", "{tmp}/o.webp"),
    "size 'huge' is unknown": ("generate", "a cat", "-o", "{tmp}/o.webp", "--size", "huge"),
    "model {tmp}/none does not exist": (
        *("generate", "a cat", "-o", "{tmp}/o.webp", "--model", "{tmp}/none"),
    ),
    "can't draw from text alone": (
        *("generate", "a cat", "-o", "{tmp}/o.webp", "--model", "{tmp}/mover"),
    ),
}


@pytest.mark.parametrize("message", EARLY)
def test_mistakes_are_found_before_torch_is_imported(tmp_path, message):
    Image.new("RGBA", (8, 8)).save(tmp_path / "empty.png")
    (tmp_path / "mover").mkdir()
    index = '{"motion": ["rdtf", "MotionDFGN"], "drawer": [null, null]}'
    (tmp_path / "mover" / "model_index.json").write_text(index)
    arguments = [part.format(tmp=tmp_path) for part in EARLY[message]]
    code = (
        "import sys\nfrom rdtf.cli.main import main\n"
        f"try:\n    main({arguments!r})\nfinally:\n    print('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "False\n"), done.stderr
    assert message.format(tmp=tmp_path) in done.stderr


def test_the_default_size_is_that_of_the_input_up_to_512(rdtf, tiny_run, tmp_path):
    for side, wanted in ((48, 48), (600, 512)):
        path = clip(2, side).save(tmp_path / f"{side}.webp")
        out = tmp_path / f"out-{side}.webp"
        ended = rdtf("predict", path, "--after", 1, "--model", tiny_run, "-o", out, *FAST)
        assert ended.status == 0, ended.err
        made = Sticker.load(out)
        assert (made.width, made.height) == (wanted, wanted)
        if side == wanted:
            assert np.array_equal(visible(made)[:2], visible(Sticker.load(path)))
