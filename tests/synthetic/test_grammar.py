"""The motion grammar: what verbs do, how loops close, what draws and captions say."""

from __future__ import annotations

import re
from importlib.resources import files

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
from rdtf.synthetic.grammar import kept_in_canvas, shown_motion, within_canvas
from rdtf.synthetic.verbs import TRAINED
from rdtf.synthetic.words import AMOUNT_WORDS, SPEED_WORDS

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
@pytest.mark.parametrize("verb", TRAINED)
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


@pytest.mark.parametrize("verb", TRAINED)
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
    one_way = [name for name in TRAINED if VERBS[name].one_way]
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


@pytest.mark.parametrize(
    "verb", [name for name, v in VERBS.items() if v.pivot in ("top", "bottom")]
)
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
    assert {draw.verbs[0] for draw in found} == set(TRAINED)
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
        ("fainting", ("topple",), "", ""),
        ("running in slow motion", ("run",), "slow", ""),
        ("a dog waves", ("sway",), "", ""),
        ("the cat isn't jumping but spinning", ("spin",), "", ""),
        ("an angry bear", ("tremble", "pulse"), "", ""),
        ("an angry bear dancing fast", ("dance",), "fast", ""),
        ("jump high", ("jump",), "", "much"),
        ("shaking its head no", ("shake", "sway"), "", ""),
        ("says no and jumps", ("shake", "sway", "jump"), "", ""),
    ],
)
def test_words_ask_for_motions(words, verbs, speed, amount):
    found = motion_of(words)
    assert found is not None
    assert (found.verbs, found.speed, found.amount) == (verbs, speed, amount)


@pytest.mark.parametrize(
    "words",
    ["", "a cat", "a springbok", "jump rope", "a running shoe", "sleeping bag", "cinnamon rolls",
     "wedding rings", "hot dog", "a rocking chair", "fall leaves", "lungs"],
)  # fmt: skip
def test_other_words_ask_for_none(words):
    assert motion_of(words) is None


def test_every_phrase_of_the_vocabulary_asks_for_what_its_line_says():
    seen: set[str] = set()
    text = files("rdtf.synthetic").joinpath("words.txt").read_text("utf-8")
    lines = re.sub(r"\n +", " ", text).splitlines()
    for line in lines[lines.index("[actions]") : lines.index("[things]")]:
        recipe, _, phrases = line.partition(" | ")
        for phrase in phrases.split(", ") if phrases else ():
            found = motion_of(phrase)
            assert found is not None, phrase
            first = re.match("[a-z ]+", recipe)
            assert first and found.verbs[0].startswith(first[0].strip()), (phrase, found)
            assert phrase not in seen, phrase
            seen.add(phrase)
            affine, deform, opacity = shown_motion(found, np.arange(8) * 100.0, BOX)
            moved = np.abs(affine).max() + np.abs(deform).max() + (1 - opacity).max()
            assert (moved > 0.01) == (recipe != "stand"), phrase
    assert len(seen) > 1300


@pytest.mark.parametrize("words", ["not moving", "stands still", "don't jump", "without moving"])
def test_no_motion_is_a_wish_too(words):
    found = motion_of(words)
    assert found is not None and found.verbs == ("stand",)
    affine, _, opacity = shown_motion(found, np.arange(8) * 100.0, BOX)
    assert not affine.any() and (opacity == 1).all()


@pytest.mark.parametrize(
    ("words", "side"),
    [
        ("jumping to the left", -1),
        ("runs to the right", 1),
        ("walking left", -1),
        ("rolling to the left", -1),
        ("from left to right", 1),
        ("moves right", 1),
        ("leaving to the left", -1),
    ],
)
def test_left_is_left_and_right_is_right(words, side):
    found = motion_of(words)
    assert found is not None and found.says_side
    affine, _, _ = shown_motion(found, np.arange(8) * 100.0, BOX)
    assert np.sign(affine[-1, X]) == side and abs(affine[-1, X]) > 0.3


def test_what_comes_from_a_side_comes_from_there():
    for words, side in (("comes in from the left", -1), ("enters from the right", 1)):
        found = motion_of(words)
        assert found is not None
        affine, _, _ = shown_motion(found, np.arange(8) * 100.0, BOX)
        assert not affine[0].any() and np.abs(affine[-1]).max() < 0.05
        assert np.sign(affine[1, X]) == side and (np.diff(affine[1:, X]) * side < 0).all()


def test_actions_follow_one_another():
    found = motion_of("jumps, then spins and then faints")
    assert found is not None
    assert [act.verbs for act in (found, *found.then)] == [("jump",), ("spin",), ("topple",)]
    assert found.told == "jumps, then spins, then faints → jump, then spin, then topple"
    affine, _, _ = shown_motion(found, np.arange(16) * 100.0, BOX)
    assert affine[:6, Y].min() < -0.3 and not affine[:5, TURN].any()
    assert np.abs(affine[5:11, TURN]).max() > 4
    assert abs(affine[-1, TURN]) % (2 * np.pi) == pytest.approx(np.pi / 2)


def test_counts_are_kept():
    def hops(words: str) -> int:
        found = motion_of(words)
        assert found is not None
        y = shown_motion(found, np.linspace(0, 3000, 60), BOX)[0][:, Y]
        return int(((y[1:-1] < y[:-2]) & (y[1:-1] <= y[2:]) & (y[1:-1] < -0.1)).sum())

    assert [hops(f"bounces {count}") for count in ("once", "twice", "three times")] == [1, 2, 3]
    assert hops("jumping 4 times") == 4
    two_dogs = motion_of("two dogs jumping")
    assert two_dogs is not None and two_dogs.cycles == 0


def test_fast_is_faster():
    def turned(words: str) -> float:
        found = motion_of(words)
        assert found is not None
        return np.abs(shown_motion(found, np.arange(8) * 100.0, BOX)[0][:, TURN]).max()

    assert turned("spinning fast") == pytest.approx(2 * turned("spinning"))


def test_each_action_has_its_side():
    found = motion_of("slides to the left, then moves right")
    assert found is not None
    x = shown_motion(found, np.arange(9) * 100.0, BOX)[0][:, X]
    assert x[4] < -0.5 and x[-1] == pytest.approx(0, abs=0.05)


# ----------------------------------------------------------------------------- as shown


@pytest.mark.parametrize("loops", [False, True])
@pytest.mark.parametrize("verb", [name for name in VERBS if name != "stand"])
def test_every_verb_is_seen_and_ends_well_whatever_the_number_of_frames(verb, loops):
    """Nothing ends in mid-air: what returns has returned, what leads away is done."""
    kind = VERBS[verb]
    for count in range(2, 17):
        draw = MotionDraw((verb,), loops=loops)
        affine, deform, opacity = shown_motion(draw, np.arange(count + loops) * 100.0, BOX)
        seen = np.column_stack([seen_motion(affine), np.sin(np.pi * deform) ** 2, 1 - opacity])
        assert not seen[0].any()
        assert np.abs(seen[:count]).max() > 0.02, (count, "stands still")
        end = np.abs(seen[-1]).max()
        if kind.one_way and not kind.arrives and not loops:
            full, how, left = shown_motion(draw, np.array([0.0, 1e5]), BOX)
            assert np.allclose(affine[-1], full[-1]) and np.allclose(opacity[-1], left[-1])
            assert deform[-1] == how[-1]
        elif verb == "tremble":
            assert end < 0.12
        elif count > 4 and not kind.arrives and verb != "waddle" and not (loops and kind.beats > 1):
            allowed = 0.31 if loops and verb == "jump" else 0.02
            assert end < allowed, (count, seen[-1])


def test_the_still_may_be_the_last_frame():
    """What slides left has come from the right, and what grows was smaller."""
    times_ms = np.arange(-7, 1) * 100.0
    left = shown_motion(MotionDraw(("slide left",)), times_ms, BOX)[0]
    assert (np.diff(left[:, X]) <= 0).all() and left[0, X] > 0.5 and not left[-1].any()
    grown = shown_motion(MotionDraw(("grow",)), times_ms, BOX)[0]
    assert grown[0, LOG_X] < -0.4 and not grown[-1].any()
    spun = shown_motion(MotionDraw(("spin",)), times_ms, BOX)[0]
    assert (np.diff(spun[:, TURN]) > 0).all()
    come = motion_of("appears")
    assert come is not None and shown_motion(come, times_ms, BOX)[0][0, LOG_X] < -1.5


def spread(affine: np.ndarray, outline: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """How far the moved outline reaches, `[F]`."""
    far = []
    for x, y, turn, log_x, log_y, shear in affine:
        cos, sin = np.cos(turn), np.sin(turn)
        linear = np.array([[cos, -sin], [sin, cos]]) @ [[np.exp(log_x), shear], [0, np.exp(log_y)]]
        far.append(np.abs((outline - centre) @ linear.T + centre + [x, y]).max())
    return np.array(far)


@pytest.mark.parametrize("name", [name for name, verb in VERBS.items() if not verb.leaves])
@pytest.mark.parametrize("amount", [1.0, 1.7])
def test_motions_stay_in_the_canvas(name, amount):
    """However wildly, and also where the still fills the canvas; what has room is left alone."""
    corners = np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])
    for size in (0.3, 0.8, 0.98):
        box = np.array([0.0, 0.0, -size, -size, size, size])
        draw = MotionDraw((name,), amount_factor=amount)
        affine = shown_motion(draw, np.arange(8) * 100.0, box)[0]
        kept = within_canvas(draw, affine, corners * size, box[:2])
        slack = 0.75 if name in ("slide left", "slide right", "roll") else 1e-6
        assert spread(kept, corners * size, box[:2]).max() <= 1 + slack
        assert not kept[0].any()
        if spread(affine, corners * size, box[:2]).max() <= 1:
            assert np.allclose(kept, affine)
        moves = np.abs(seen_motion(kept)).max() > 0.02
        assert moves or VERBS[name].deform or name in ("flicker", "fade", "fade in", "stand"), (
            name,
            size,
        )


def test_what_hangs_over_the_edge_may_stay_so():
    outline = np.array([[-1.2, -1.2], [1.2, 1.2]])
    affine = np.zeros((3, 6))
    affine[1, X] = 0.4
    kept = kept_in_canvas(affine, outline, np.zeros(2))
    assert not kept[[0, 2]].any() and spread(kept, outline, np.zeros(2)).max() <= 1.2 + 1e-9


def test_words_that_lead_away_may_leave_the_canvas():
    for name in ("fly", "exit", "explode", "fall"):
        draw = MotionDraw((name,))
        affine = shown_motion(draw, np.arange(8) * 100.0, BOX)[0]
        assert np.array_equal(within_canvas(draw, affine, BOX[2:].reshape(2, 2), BOX[:2]), affine)
