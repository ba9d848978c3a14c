"""A double of CogView2's text-to-image script, as far as our adapter calls it: what it does when it is imported, and three names."""

import torch
from icetk import icetk as tokenizer
from SwissArmyTransformer import Model

tokenizer.add_special_tokens(["<start_of_image>", "<start_of_english>", "<start_of_chinese>"])


class InferenceModel(Model):
    pass


def get_recipe(name):
    temperatures = {"attn_plus": 1.4, "temp_all_gen": 1.15, "topk_gen": 16, "temp_cluster_gen": 1.0}
    return temperatures | {"query_template": "{}<start_of_image>" if name == "none" else "{} in the style of " + name + "<start_of_image>"}


def get_masks_and_position_ids_coglm(seq, context_length):
    return seq.unsqueeze(0), torch.ones(1, 1, len(seq), len(seq)), torch.arange(len(seq)).unsqueeze(0)
