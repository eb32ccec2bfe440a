from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from benchmarks.duplicates import coded, in_palette, scaled

from rdtf.data.duplicates import FINGERPRINT_BYTES, are_copies, clusters, fingerprint
from rdtf.data.filters import thumbnails
from rdtf.stickers.canvas import on_background
from rdtf.synthetic.characters import SyntheticStickers

NUM_STICKERS = 24


@pytest.fixture(scope="module")
def originals() -> list[np.ndarray]:
    """Straight RGBA uint8 [F,128,128,4] of different stickers, stills among them."""
    stickers = SyntheticStickers(3, NUM_STICKERS, 128, 8)
    return [stickers[index].frames for index in range(NUM_STICKERS)]


def rows(clips: list[np.ndarray]) -> np.ndarray:
    return np.stack([np.frombuffer(fingerprint(clip), np.uint8) for clip in clips])


def recoloured(frames: np.ndarray, order: list[int]) -> np.ndarray:
    return frames[..., [*order, 3]]


EDITS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mirrored": lambda frames: frames[:, :, ::-1],
    "reversed": lambda frames: frames[::-1],
    "begins elsewhere": lambda frames: np.roll(frames, len(frames) // 2, axis=0),
    "held longer": lambda frames: np.repeat(frames, np.arange(len(frames)) % 3 + 1, axis=0),
    "JPEG on white": lambda frames: coded(
        on_background(frames, (255, 255, 255)), "JPEG", quality=50
    ),
    "WebP": lambda frames: coded(frames, "WEBP", quality=30, method=0),
    "GIF": in_palette,
    "half the size": lambda frames: scaled(frames, 64),
    "an uneven size": lambda frames: scaled(frames, 90),
    "mirrored, small, WebP": lambda frames: coded(
        scaled(frames[:, :, ::-1], 80), "WEBP", quality=50
    ),
}


# One bit of alpha makes soft shadows another picture.
MOST_LOST = {"GIF": NUM_STICKERS // 4}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_copy_is_a_duplicate(edit, originals):
    copies = [EDITS[edit](frames) for frames in originals]
    found = clusters([fingerprint(clip) for clip in [*originals, *copies]])
    home = [*range(NUM_STICKERS)]
    assert found[:NUM_STICKERS] == home
    lost = [name for name, first in zip(home, found[NUM_STICKERS:], strict=True) if name != first]
    assert len(lost) <= MOST_LOST.get(edit, 0)


def test_a_recolour_is_no_duplicate(originals):
    copies = [recoloured(frames, [2, 0, 1]) for frames in originals]
    assert clusters([fingerprint(clip) for clip in [*originals, *copies]]) == [
        *range(2 * NUM_STICKERS)
    ]


def test_a_lighter_skin_is_a_recolour():
    skins = np.zeros((2, 64, 64, 4), np.uint8)
    skins[:, 12:52, 12:52, 3] = 255
    skins[0, 12:52, 12:52, :3], skins[1, 12:52, 12:52, :3] = (214, 160, 120), (190, 136, 96)
    first, second = rows([skins[:1], skins[1:]])
    assert not are_copies(first[None], second[None])


def test_white_on_transparent_is_known_by_its_alpha():
    shapes = np.zeros((2, 64, 64, 4), np.uint8)
    shapes[..., :3] = 255
    shapes[0, 10:50, 10:50, 3] = shapes[1, 20:60, 30:40, 3] = 255
    blank = np.full((1, 64, 64, 4), 255, np.uint8)
    assert clusters([fingerprint(clip) for clip in (shapes[:1], shapes[1:], blank)]) == [0, 1, 2]


def test_a_still_is_no_duplicate_of_a_clip(originals):
    moving = max(originals, key=lambda frames: frames.astype(float).std(axis=0).mean())
    assert clusters([fingerprint(moving), fingerprint(moving[:1])]) == [0, 1]


def test_fingerprints_are_of_one_size(originals):
    wide = originals[0][:, 30:90]
    for frames in (originals[0], originals[1][:1], wide, wide[:, :, :7]):
        assert len(fingerprint(frames)) == FINGERPRINT_BYTES
        assert fingerprint(frames) == fingerprint(frames, thumbnails(frames))


# ------------------------------------------------------------------------- search


def noisy(prints: np.ndarray, copies: int, seed: int) -> np.ndarray:
    """Each row several times with a little noise, shuffled."""
    draws = np.random.default_rng(seed)
    many = prints.repeat(copies, axis=0).astype(int)
    many[:, :-1] += np.rint(draws.normal(0, 1, many[:, :-1].shape)).astype(int)
    return draws.permutation(many.clip(0, 255).astype(np.uint8))


def test_the_first_of_a_cluster_names_it(originals):
    prints = noisy(rows(originals), 12, seed=1)
    found = np.array(clusters(prints))
    names = (np.abs(prints[:, None].astype(int) - rows(originals)).mean(axis=-1)).argmin(axis=1)
    first = [int(np.flatnonzero(names == name)[0]) for name in names]
    assert found.tolist() == first


def test_a_pile_of_one_picture_is_one_cluster(originals):
    prints = rows(originals[:3])
    pile = np.concatenate([prints[:1], np.repeat(prints[1:2], 300, axis=0), prints[2:]])
    assert clusters(pile) == [0, *[1] * 300, 301]
    assert clusters(noisy(prints[:1], 200, seed=2)) == [0] * 200


def test_members_are_copies_of_the_first_not_of_each_other(originals):
    """A chain of small steps does not join its ends."""
    one, other = (row.astype(float) for row in rows(originals[:2]))
    steps = np.linspace(0, 1, 60)[:, None]
    chain = np.rint(one + steps * (other - one)).astype(np.uint8)
    found = np.array(clusters(chain))
    assert len(set(found.tolist())) > 3
    assert are_copies(chain, chain[found]).all()


def test_no_fingerprints_and_one_on_disk(tmp_path, originals):
    assert clusters([]) == []
    prints = rows([*originals[:4], originals[2]])
    np.save(tmp_path / "prints.npy", prints)
    assert clusters(np.load(tmp_path / "prints.npy", mmap_mode="r")) == [0, 1, 2, 3, 2]
