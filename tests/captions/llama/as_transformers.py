"""A LLaMA in Meta's layout under the names of transformers, to compare the two."""

import torch

from synth.captions.llama.params import ModelParams
from synth.captions.llama.reshard import State


def to_transformers(whole: State, params: ModelParams) -> State:
    """The weights under LlamaForCausalLM's names.

    Meta rotates interleaved pairs (x0, x1), (x2, x3), ..; transformers rotates the two halves of a head. So the rows of
    q and k are reordered within each head. Without it nothing fails, and the logits are wrong.
    """

    def halves(weight: torch.Tensor, heads: int) -> torch.Tensor:
        rows, columns = weight.shape
        return weight.view(heads, rows // heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns)

    renamed = {
        "model.embed_tokens.weight": whole["tok_embeddings.weight"],
        "model.norm.weight": whole["norm.weight"],
        "lm_head.weight": whole["output.weight"],
    }
    for i in range(params.n_layers):
        meta, hf = f"layers.{i}.", f"model.layers.{i}."
        renamed |= {
            hf + "self_attn.q_proj.weight": halves(whole[meta + "attention.wq.weight"], params.n_heads),
            hf + "self_attn.k_proj.weight": halves(whole[meta + "attention.wk.weight"], params.n_kv_heads),
            hf + "self_attn.v_proj.weight": whole[meta + "attention.wv.weight"],
            hf + "self_attn.o_proj.weight": whole[meta + "attention.wo.weight"],
            hf + "mlp.gate_proj.weight": whole[meta + "feed_forward.w1.weight"],
            hf + "mlp.down_proj.weight": whole[meta + "feed_forward.w2.weight"],
            hf + "mlp.up_proj.weight": whole[meta + "feed_forward.w3.weight"],
            hf + "input_layernorm.weight": whole[meta + "attention_norm.weight"],
            hf + "post_attention_layernorm.weight": whole[meta + "ffn_norm.weight"],
        }
    return renamed
