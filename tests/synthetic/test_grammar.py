"""The motion grammar: what verbs do, how loops close, what draws and captions say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdtf.errors import UserError
from rdtf.synthetic import (
    VERBS,
    MotionDraw,
    as_shown,
    draw_caption,
    draw_duration_ms,
    draw_motion,
    find_verb,
    motion_of,
    motion_parameters,
)
from rdtf.synthetic.grammar import within_canvas
from rdtf.synthetic.phrases import AMOUNT_WORDS, SPEED_WORDS

BOX = np.array([-0.1, 0.05, -0.6, -0.5, 0.4, 0.7])
X, Y, TURN, LOG_X, LOG_Y, SHEAR = range(6)


def parameters(draw: MotionDraw, times_ms, total_ms: float = 1000.0):
    return motion_parameters(draw, np.array(times_ms, dtype=float), total_ms, BOX)


def draws(count: int, seed: int = 0) -> list[MotionDraw]:
    return [draw_motion(np.random.default_rng([seed, index])) for index in range(count)]


def seen_motion(affine: np.ndarray) -> np.ndarray:
    """Affine parameters with whole turns taken for none."""
    wrapped = affine.copy()
    wrapped[:, TURN] -= 2 * np.pi * np.rint(wrapped[:, TURN] / (2 * np.pi))
    return wrapped


@pytest.mark.parametrize("loops", [False, True])
@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_begins_with_the_still_and_then_moves(verb, loops):
    draw = MotionDraw((verb,), amount_factor=1.3, speed_factor=0.7, loops=loops)
    total_ms = draw_duration_ms(draw, 8, np.random.default_rng(0)) * 8
    affine, deform = parameters(draw, np.arange(8) * total_ms / 8, total_ms)
    assert affine.shape == (8, 6) and deform.shape == (8,)
    assert np.abs(affine[0]).max() < 1e-12 and deform[0] == 0
    assert np.isfinite(affine).all()
    assert np.abs(affine).max() > 0.02 or deform.max() > 0.2
    assert (deform.any() or False) == bool(VERBS[verb].deform)


# Landing flattens a thing, and its next leap begins from the still.
_LANDS = {"jump": (LOG_X, LOG_Y), "bounce": (LOG_X, LOG_Y)}


@pytest.mark.parametrize("verb", VERBS)
def test_loops_come_back(verb):
    for speed in (0.5, 1.0, 2.0):
        draw = MotionDraw((verb,), speed_factor=speed, side=-1, loops=True)
        affine, deform = parameters(draw, [0, 400, 1000])
        end = seen_motion(affine)[-1:]
        end[:, list(_LANDS.get(verb, ()))] = 0
        # What flattens about the floor moves its centre too.
        end[:, Y] = 0 if verb in _LANDS else end[:, Y]
        assert np.abs(end).max() < 1e-9, (verb, speed, end)
        if VERBS[verb].deform == "ripple":
            deform = deform - np.rint(deform)  # of waves
        assert abs(deform[-1]) < 1e-9


def test_loops_of_walks_stay_where_they_are():
    """A walk that goes somewhere would jump back when the loop begins again."""
    for verb, column in (("waddle", X), ("run", SHEAR)):
        times_ms = np.linspace(0, 1000, 101)
        affine, _ = parameters(MotionDraw((verb,), loops=True), times_ms)
        steps = np.abs(np.diff(affine[:, column]))
        assert abs(affine[-1, column] - affine[0, column]) <= steps.max()


def test_one_way_motions_end_at_the_end():
    one_way = [name for name, verb in VERBS.items() if verb.one_way]
    for verb in one_way:
        affine, _ = parameters(MotionDraw((verb,), speed_factor=0.5), [0, 500, 1000, 1500])
        assert np.array_equal(affine[2], affine[3])
        assert np.abs(affine[2]).max() > 0.3


@pytest.mark.parametrize("side", [-1, 1])
def test_verbs_go_where_they_say(side):
    def end(verb: str) -> np.ndarray:
        return parameters(MotionDraw((verb,), side=side), [0, 500, 1000])[0]

    assert end("slide left")[-1, X] < -0.5 and end("slide right")[-1, X] > 0.5
    assert end("fall")[-1, Y] > 1 and end("fly")[-1, Y] < -1  # y is down
    assert (end("grow")[-1, [LOG_X, LOG_Y]] > 0.3).all()
    assert (end("shrink")[-1, [LOG_X, LOG_Y]] < -0.5).all()
    assert (end("vanish")[-1, [LOG_X, LOG_Y]] < -2).all()
    assert end("jump")[1, Y] < -0.2
    assert end("melt")[-1, LOG_Y] < -0.8 and end("melt")[-1, Y] > 0.3
    assert np.sign(end("tilt")[-1, TURN]) == np.sign(end("roll")[-1, X]) == side
    spin = MotionDraw(("spin",), side=side)
    turns = parameters(spin, [VERBS["spin"].period_ms])[0][0, TURN]
    assert turns == pytest.approx(2 * np.pi * side)


@pytest.mark.parametrize("verb", [name for name, v in VERBS.items() if v.pivot != "centre"])
def test_pivots_stay_in_place(verb):
    """The foot of what sways stays on the floor, unless the verb itself lifts it."""
    phase = np.linspace(0, 1, 9)
    own = VERBS[verb].motion(phase)
    offset = BOX[5] - BOX[1] if VERBS[verb].pivot == "bottom" else BOX[3] - BOX[1]
    affine, _ = parameters(MotionDraw((verb,)), phase * VERBS[verb].period_ms, 1e4)
    turn, log_y, shear = affine[:, TURN], affine[:, LOG_Y], affine[:, SHEAR]
    foot_x = affine[:, X] + np.cos(turn) * shear * offset - np.sin(turn) * np.exp(log_y) * offset
    foot_y = affine[:, Y] + np.sin(turn) * shear * offset + np.cos(turn) * np.exp(log_y) * offset
    assert np.allclose(foot_x, np.zeros(9) + own.get("x", 0))
    assert np.allclose(foot_y - offset, np.zeros(9) + own.get("y", 0))


def test_amount_and_speed_are_felt():
    little, much = (MotionDraw(("slide left",), amount_factor=f) for f in (0.5, 1.5))
    ends = [parameters(draw, [0, 1000])[0][-1, X] for draw in (little, much)]
    assert ends[1] == pytest.approx(3 * ends[0])
    slow, fast = (MotionDraw(("spin",), speed_factor=f) for f in (0.5, 2.0))
    turns = [parameters(draw, [0, 100], 1e5)[0][-1, TURN] for draw in (slow, fast)]
    assert turns[1] == pytest.approx(4 * turns[0])


def test_draws_reach_every_verb_and_never_contradict_themselves():
    found = draws(1500)
    assert {draw.verbs[0] for draw in found} == set(VERBS)
    assert 0.03 < np.mean([len(draw.verbs) == 2 for draw in found]) < 0.2
    for draw in found:
        assert len(set(draw.verbs)) == len(draw.verbs)
        assert set(draw.verbs) != {"slide left", "slide right"}
    assert draws(20) == draws(20) != draws(20, seed=1)


def test_draws_are_of_the_verbs_asked_for():
    generator = np.random.default_rng(0)
    found = [draw_motion(generator, ["jump", "slide left"]).verbs for _ in range(80)]
    assert {verb for verbs in found for verb in verbs} == {"jump", "slide left"}
    assert max(map(len, found)) == 2


@pytest.mark.parametrize("num_frames", [4, 8, 16])
def test_durations_keep_what_the_words_say(num_frames):
    for index, drawn in enumerate(draws(400)):
        draw = as_shown(drawn, num_frames)
        generator = np.random.default_rng(index)
        duration_ms = draw_duration_ms(draw, num_frames, generator)
        assert 20 <= duration_ms <= 250
        affine, deform = parameters(
            draw, np.arange(num_frames) * duration_ms, duration_ms * num_frames
        )
        moved = np.ptp(seen_motion(affine), axis=0).max() + np.ptp(deform)
        assert moved > (0.005 if "breathe" in draw.verbs else 0.02), f"{draw} stands still"
    slow, fast = (MotionDraw(("fall",), speed_factor=f) for f in (0.6, 1.8))
    lasting = [draw_duration_ms(d, 8, np.random.default_rng(0)) for d in (slow, fast)]
    assert lasting[0] == pytest.approx(3 * lasting[1], rel=0.1)


def test_loops_are_left_out_where_frames_are_too_few():
    trembling = MotionDraw(("tremble",), loops=True)
    assert not as_shown(trembling, 8).loops and as_shown(trembling, 16).loops
    assert as_shown(MotionDraw(("spin",), loops=True), 4).loops
    assert not as_shown(MotionDraw(("jump", "dance"), loops=True), 4).loops


# ----------------------------------------------------------------------------- captions


def test_captions_say_verbs_and_adverbs():
    for index, draw in enumerate(draws(500)):
        caption = draw_caption(draw, "cat", np.random.default_rng(index))
        for verb in draw.verbs:
            assert any(gerund in caption for gerund in VERBS[verb].gerunds), (verb, caption)
        if draw.speed:
            assert any(word in caption for word in SPEED_WORDS[draw.speed]), (draw, caption)
        if draw.amount and any(VERBS[verb].has_amount for verb in draw.verbs):
            assert any(word in caption for word in AMOUNT_WORDS[draw.amount]), (draw, caption)


def test_captions_claim_nothing_that_is_not_so():
    """No amount for verbs without more or less, no "running fast slowly"."""
    for verb in ("spin", "ripple", "swirl"):
        for amount in ("little", "much"):
            draw = MotionDraw((verb,), amount=amount)
            captions = {draw_caption(draw, "", np.random.default_rng(i)) for i in range(40)}
            assert captions <= set(VERBS[verb].gerunds) | {
                f"it is {g}" for g in VERBS[verb].gerunds
            }
    slow = MotionDraw(("run",), speed="slow")
    captions = " ".join(draw_caption(slow, "dog", np.random.default_rng(i)) for i in range(60))
    assert "fast" not in captions and "running" in captions


def test_captions_vary_and_are_pure():
    draw = MotionDraw(("jump",))
    captions = [draw_caption(draw, "cat", np.random.default_rng(i)) for i in range(200)]
    assert len(set(captions)) > 12
    assert captions == [draw_caption(draw, "cat", np.random.default_rng(i)) for i in range(200)]
    assert any("cat" not in caption for caption in captions)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("a red cat.", "a red cat jumping", "a a"),
        ("apple", "an apple jumping", "a apple"),
        ("The owl", "an owl jumping", "the The"),
        ("A", "an A jumping", "the  is"),
    ],
)
def test_articles_of_names(name, good, bad):
    draw = MotionDraw(("jump",))
    captions = {draw_caption(draw, name, np.random.default_rng(i)) for i in range(300)}
    assert good in captions
    assert not any(bad in caption for caption in captions)
    assert not any("  " in caption or "." in caption for caption in captions)


def test_verbs_are_found_by_name_and_phrasing():
    for verb in VERBS.values():
        assert find_verb(verb.name) is verb
        assert all(find_verb(gerund) is verb for gerund in verb.gerunds)
    assert find_verb(" Slide-Left ") is find_verb("slide_left") is VERBS["slide left"]
    with pytest.raises(UserError, match=r"'jmp' is unknown; did you mean jump"):
        find_verb("jmp")
    with pytest.raises(UserError, match=r"'xyzzy' is unknown; use one of jump, bounce"):
        find_verb("xyzzy")


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=300, deadline=None)
def test_captions_say_what_can_be_read_back(seed):
    """Verbs of a caption are found in it again, with their speed and amount."""
    generator = np.random.default_rng(seed)
    draw = draw_motion(generator)
    found = motion_of(draw_caption(draw, "pink cat", generator))
    assert found is not None and set(found.verbs) == set(draw.verbs)
    assert found.speed in ("", draw.speed) and found.amount in ("", draw.amount)


@pytest.mark.parametrize(
    ("words", "verbs", "speed", "amount"),
    [
        ("a pink cat jumping", ("jump",), "", ""),
        ("Spinning slowly!", ("spin",), "slow", ""),
        ("jumping while spinning wildly", ("jump", "spin"), "", "much"),
        ("bouncing like a ball", ("bounce",), "", ""),
        ("sliding to the left a little", ("slide left",), "", "little"),
    ],
)
def test_words_ask_for_motions(words, verbs, speed, amount):
    found = motion_of(words)
    assert found is not None
    assert (found.verbs, found.speed, found.amount) == (verbs, speed, amount)


@pytest.mark.parametrize("words", ["", "a cat", "waving", "a springbok", "jump rope"])
def test_other_words_ask_for_none(words):
    assert motion_of(words) is None


@pytest.mark.parametrize("name", ["jump", "circle", "sway", "slide left", "dance"])
def test_motions_that_would_leave_the_canvas_are_made_smaller(name):
    box = np.array([0.0, 0.1, -0.6, -0.75, 0.6, 0.85])
    times_ms = np.arange(8) * 100.0
    draw = MotionDraw((name,))
    smaller = within_canvas(draw, times_ms, 800.0, box)
    assert 0.3 < smaller.amount_factor < 1
    tiny = within_canvas(draw, times_ms, 800.0, box * 0.2)
    assert tiny.amount_factor == 1
