"""Networks: the denoiser (DFGN with STI), representations, text encoders."""
