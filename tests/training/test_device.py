from __future__ import annotations

import pytest
import torch

from rdtf.training.device import settle_kernels


@pytest.fixture
def settings_restored():
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = (cudnn.deterministic, cudnn.benchmark, matmul.allow_tf32)
    yield
    cudnn.deterministic, cudnn.benchmark, matmul.allow_tf32 = before
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("settings_restored")
@pytest.mark.parametrize("deterministic", [False, True])
def test_no_algorithms_are_tried_for_each_length_of_clips(deterministic):
    settle_kernels(deterministic)
    assert torch.backends.cudnn.benchmark is False
    assert torch.backends.cudnn.deterministic is deterministic
