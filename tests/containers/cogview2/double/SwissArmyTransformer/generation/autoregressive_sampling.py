"""Of the double: image tokens by the global generator, and by the prompt."""

import torch


def filling_sequence(model, seq, batch_size, strategy, log_attention_weights, get_masks_and_position_ids):
    context = int((seq >= 0).sum())
    tokens, mask, positions = get_masks_and_position_ids(seq)
    if (
        strategy.start_pos != context
        or batch_size != 1
        or log_attention_weights.shape != mask.shape[-2:]
        or positions.shape != tokens.shape
    ):
        raise RuntimeError("the parts do not fit together")
    tokens = tokens[:, :context]
    for _ in range(len(seq) - context):
        logits = torch.arange(20000).add(tokens.sum()).remainder(977).float().unsqueeze(0)
        tokens = strategy.forward(logits, tokens)
    return tokens, None
