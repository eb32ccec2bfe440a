from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdtf.data.listing import collect_folders
from rdtf.data.sources import caption_from_name, clean_captions, split_concepts
from rdtf.errors import ConfigError, UserError

from .stickers import moving_square, save_webp, soft_disc, write_rows


@pytest.mark.parametrize(
    ("stem", "caption"),
    [
        ("cat_waving-hello", "cat waving hello"),
        ("Red Panda (2)", "Red Panda"),
        ("9f86d081884c7d659a2f_happy_dog", "happy dog"),
        ("5d41402abc4b2a76b9719d911017c592", ""),
        ("AgADvwADVp29Cg", ""),
        ("IMG_2034", ""),
        ("noto_1f192", "noto"),
        ("猫_こんにちは", "猫 こんにちは"),
        ("17", ""),
        ("deed_of_a_bee", "deed of a bee"),
    ],
)
def test_caption_from_name(stem, caption):
    assert caption_from_name(stem) == caption


@given(st.lists(st.one_of(st.text(), st.none(), st.integers())))
def test_captions_are_clean_whatever_was_given(texts):
    captions = clean_captions(texts)
    assert len(set(captions)) == len(captions)
    for caption in captions:
        assert caption and caption == " ".join(caption.split())
        caption.encode("utf-8")


def test_rows_name_captions_and_origin(sticker_folder):
    items, skipped = collect_folders([sticker_folder])
    by_file = {item.file: item for item in items}
    square = by_file["pack/moving/red_square.gif"]
    assert square.captions == ("red square", "a square moves")
    assert (square.concept, square.license, square.source) == ("square", "CC0-1.0", "pack/moving")
    assert square.attributes == {"emotion": "calm"}
    green = by_file["pack/moving/green_square.webp"]
    assert (green.concept, green.captions) == ("green_square", ("green square",))
    assert by_file["pack/still/disc.webp"].captions == ("blue disc",)
    assert [item.file for item in items] == sorted(by_file)
    assert [(row.file, row.reason) for row in skipped] == [
        ("pack/captions.jsonl:3", "file named by the line does not exist"),
        ("pack/captions.jsonl:4", "line is not JSON"),
    ]


def test_captions_beside_files_and_in_several_rows(tmp_path):
    save_webp(tmp_path / "a.webp", soft_disc())
    save_webp(tmp_path / "b.webp", soft_disc())
    (tmp_path / "a.txt").write_text("one disc\n\nanother  disc\n")
    rows = [{"file": "b.webp", "caption": text, "concept": text} for text in ("x", "y", "x")]
    write_rows(tmp_path / "rows.jsonl", rows)
    items, _ = collect_folders([tmp_path])
    assert [item.captions for item in items] == [("one disc", "another disc"), ("x", "y")]
    assert items[1].concept == "x"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"file": "../secret.webp"}', "outside"),
        ('{"file": "/etc/passwd"}', "outside"),
        ('{"file": "rows.jsonl"}', "not a supported format"),
        ('{"file": 3}', "names no file"),
        ('["a.webp"]', "names no file"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_lines_that_cannot_be_used_are_reported(tmp_path, line, reason):
    save_webp(tmp_path / "pack" / "a.webp", soft_disc())
    save_webp(tmp_path / "secret.webp", soft_disc())
    write_rows(tmp_path / "pack" / "rows.jsonl", [line])
    items, skipped = collect_folders([tmp_path / "pack"])
    assert [item.file for item in items] == ["pack/a.webp"]
    assert len(skipped) == 1 and reason in skipped[0].reason


def test_packs_of_numbered_files_are_different_concepts(tmp_path):
    for pack in ("cats", "dogs"):
        save_webp(tmp_path / "packs" / pack / "1.webp", soft_disc())
    items, _ = collect_folders([tmp_path / "packs"])
    assert [item.concept for item in items] == ["packs/cats/1", "packs/dogs/1"]
    assert [item.captions for item in items] == [(), ()]


def test_two_inputs_of_one_name_and_files_given_twice(tmp_path):
    first = save_webp(tmp_path / "a" / "pack" / "x.webp", soft_disc())
    save_webp(tmp_path / "b" / "pack" / "x.webp", soft_disc())
    items, _ = collect_folders([tmp_path / "a" / "pack", tmp_path / "b" / "pack", first])
    assert [item.file for item in items] == ["pack-2/x.webp", "pack/x.webp"]


def test_a_folder_of_frames_with_durations_is_one_clip(tmp_path):
    for number in range(3):
        save_webp(tmp_path / "pack" / "wave" / f"{number}.webp", soft_disc())
    (tmp_path / "pack" / "wave" / "durations.json").write_text("[50, 60, 70]")
    write_rows(tmp_path / "pack" / "rows.jsonl", [{"file": "wave", "text": "a hand waves"}])
    items, skipped = collect_folders([tmp_path / "pack"])
    assert [(item.file, item.captions) for item in items] == [("pack/wave", ("a hand waves",))]
    assert not skipped


@pytest.mark.parametrize("name", ["{:04d}", "wave_{:03d}", "frame{}"])
def test_a_folder_of_numbered_frames_is_one_clip(tmp_path, name):
    folder = tmp_path / "clips" / "cat v1.2 waving"
    for number, frame in enumerate(moving_square(12)):
        save_webp(folder / f"{name.format(number)}.webp", frame[None])
    items, skipped = collect_folders([tmp_path / "clips"])
    assert [(item.path, item.captions) for item in items] == [(folder, ("cat v1 waving",))]
    assert items[0].concept == "cat v1.2 waving" and not skipped
    alone, _ = collect_folders([folder])
    assert [item.path for item in alone] == [folder]


def test_numbered_stickers_of_a_pack_stay_single(tmp_path):
    """Short numbers, other sizes, gaps, animations or captions: no frames of one clip."""
    for number in range(3):
        save_webp(tmp_path / "pack" / f"0{number}.webp", soft_disc())
        save_webp(tmp_path / "sizes" / f"00{number}.webp", soft_disc(16 + number))
        save_webp(tmp_path / "gaps" / f"00{2 * number}.webp", soft_disc())
        save_webp(tmp_path / "moving" / f"00{number}.webp", moving_square(3))
        save_webp(tmp_path / "told" / f"00{number}.webp", soft_disc())
        save_webp(tmp_path / "rows" / f"00{number}.webp", soft_disc())
    (tmp_path / "told" / "001.txt").write_text("a disc")
    write_rows(tmp_path / "rows" / "rows.jsonl", [{"file": "001.webp", "text": "a disc"}])
    items, _ = collect_folders([tmp_path])
    assert len(items) == 18


def test_numbered_pictures_that_are_too_large_stay_single(tmp_path):
    """Headers alone: more pixels than Pillow or the budget takes, each a file to skip later."""
    large = b"\x89PNG\r\n\x1a\n" + png_chunk(
        b"IHDR", struct.pack(">IIBBBBB", 30000, 30000, 8, 6, 0, 0, 0)
    )
    for number in range(3):
        path = tmp_path / f"{number:03d}.png"
        path.write_bytes(large + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b""))
    items, _ = collect_folders([tmp_path])
    assert [item.path.name for item in items if item.path] == ["000.png", "001.png", "002.png"]


def png_chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def test_a_folder_that_a_row_names_is_one_clip(tmp_path):
    for number in range(3):
        save_webp(tmp_path / "pack" / "wave" / f"{number}.webp", soft_disc())
    write_rows(tmp_path / "pack" / "rows.jsonl", [{"file": "wave", "text": "a hand waves"}])
    items, skipped = collect_folders([tmp_path / "pack"])
    assert [(item.file, item.captions) for item in items] == [("pack/wave", ("a hand waves",))]
    assert not skipped


def test_hidden_files_are_left_alone(tmp_path):
    save_webp(tmp_path / ".trash" / "x.webp", soft_disc())
    save_webp(tmp_path / "__MACOSX" / "x.webp", soft_disc())
    with pytest.raises(UserError, match="no sticker found"):
        collect_folders([tmp_path])


def test_missing_input_is_named(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        collect_folders([tmp_path / "nowhere"])


@given(
    st.sets(st.text(min_size=1), min_size=2, max_size=60),
    st.floats(0.01, 0.9),
    st.integers(0, 5),
)
def test_both_sides_of_a_split_get_concepts(concepts, val_fraction, seed):
    sides = split_concepts(concepts, val_fraction, seed)
    assert set(sides) == concepts
    assert set(sides.values()) == {"train", "val"}


def test_split_follows_its_fraction_and_stays_when_concepts_are_added():
    concepts = [f"concept {number}" for number in range(4000)]
    sides = split_concepts(concepts, 0.1, seed=0)
    assert 320 < sum(side == "val" for side in sides.values()) < 480
    fewer = split_concepts(concepts[:2000], 0.1, seed=0)
    assert all(sides[concept] == side for concept, side in fewer.items())
    assert split_concepts(concepts, 0.1, seed=1) != sides
    assert set(split_concepts(concepts, 0, seed=0).values()) == {"train"}


def test_a_fraction_that_leaves_nothing_to_train_on_is_refused():
    with pytest.raises(ConfigError, match="val_fraction"):
        split_concepts(["a"], 1.0, seed=0)
