"""The paper: tasks and condition masks, the dual mask, the curriculum, the objectives, the loss."""
