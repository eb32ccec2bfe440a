"""The paper: tasks and condition masks, the dual mask, the curriculum, the objectives."""

from rdtf.method.curriculum import Curriculum, CurriculumConfig
from rdtf.method.dual_mask import denoiser_input
from rdtf.method.loss import frame_weights, masked_error_sum
from rdtf.method.objective import ObjectiveConfig, build_objective
from rdtf.method.tasks import FAMILIES, FAMILY, TASKS, TaskDraw, condition_mask, draw_task

__all__ = [
    "FAMILIES",
    "FAMILY",
    "TASKS",
    "Curriculum",
    "CurriculumConfig",
    "ObjectiveConfig",
    "TaskDraw",
    "build_objective",
    "condition_mask",
    "denoiser_input",
    "draw_task",
    "frame_weights",
    "masked_error_sum",
]
