"""A double of CogView2's sampling: labels from the working folder, and torch's global generator. Dies once, where a test asks for it."""

import os

import numpy as np
import torch


class CoglmStrategy:
    def __init__(self, invalid_slices, temperature, top_k, top_k_cluster):
        self.labels = torch.tensor(np.load("cluster_label.npy"), device="cuda")
        self.start_pos, self.drawn = None, 0

    def forward(self, logits, tokens):
        self.drawn += 1
        mark = os.environ.get("COGVIEW2_DOUBLE_DIES", "")
        if self.drawn == 600 and mark and not os.path.exists(mark):
            open(mark, "w").close()
            os._exit(7)
        return torch.cat((tokens, torch.multinomial(torch.softmax(logits / 100, dim=-1), num_samples=1)), dim=1)
