"""Tiny random vision models of transformers' own classes, saved as folders with their tokenizers: one builder a class."""

import json
from pathlib import Path

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = ["red", "blue", "car", "dog", "tree", "ball", "small", "hydra", "##nt", "##s", "fire", "a", ".", "?"]


def bert_tokenizer():
    """As of bert-base-uncased where the detectors look: [PAD] 0, [UNK] 100, [CLS] 101, [SEP] 102, . 1012, ? 1029."""
    from transformers import BertTokenizer

    vocab = {f"[unused{n}]": n for n in range(1100)}
    known = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103, ".": 1012, "?": 1029}
    known |= {word: 200 + n for n, word in enumerate(w for w in WORDS if w not in ".?")}
    known |= {letter: 300 + n for n, letter in enumerate(LETTERS)} | {f"##{letter}": 400 + n for n, letter in enumerate(LETTERS)}
    by_number = {n: token for token, n in vocab.items()} | {n: token for token, n in known.items()}
    by_number[200 + 11] = "a"
    by_number[300] = "[unused300]"
    return BertTokenizer(vocab={token: n for n, token in sorted(by_number.items())})


def _grounding(model: str, config: str, folder: Path) -> Path:
    import torch
    import transformers as t

    torch.manual_seed(3)
    swin = t.SwinConfig(
        image_size=64, embed_dim=16, depths=[1] * 4, num_heads=[1, 2, 2, 2], window_size=4,
        out_features=["stage2", "stage3", "stage4"], out_indices=None,
    )  # fmt: skip
    bert = t.BertConfig(
        vocab_size=1100, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, max_position_embeddings=64
    )
    made = getattr(t, model)(
        getattr(t, config)(
            backbone_config=swin, text_config=bert, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, num_queries=20, max_text_len=24,
        )
    )  # fmt: skip
    made.save_pretrained(folder)
    bert_tokenizer().save_pretrained(folder)
    return _prepares(folder, size={"shortest_edge": 96, "longest_edge": 160})


def mm_grounding_dino(folder: Path) -> Path:
    """For pictures of 96 to 160 pixels a side, 20 queries, texts of 24 tokens."""
    return _grounding("MMGroundingDinoForObjectDetection", "MMGroundingDinoConfig", folder)


def grounding_dino(folder: Path) -> Path:
    return _grounding("GroundingDinoForObjectDetection", "GroundingDinoConfig", folder)


def owlv2(folder: Path) -> Path:
    """For squares of 64 pixels in 16 patches, texts of 16 tokens, which are letters."""
    import torch
    import transformers as t

    from tests.images.tiny import clip_tokenizer

    torch.manual_seed(4)
    words = clip_tokenizer(folder)
    layer = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": 0}
    text = layer | ends | {"vocab_size": len(words), "max_position_embeddings": 16}
    vision = layer | {"image_size": 64, "patch_size": 16}
    t.Owlv2ForObjectDetection(t.Owlv2Config(text_config=text, vision_config=vision, projection_dim=32)).save_pretrained(folder)
    words.save_pretrained(folder)
    return _prepares(folder, size={"height": 64, "width": 64})


def florence2(folder: Path) -> Path:
    """For squares of 64 pixels, which are 5 tokens; words are bytes."""
    import torch
    import transformers as t

    torch.manual_seed(7)
    words = bart_tokenizer()
    ends = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2, "forced_bos_token_id": 0}
    text = ends | {
        "model_type": "bart", "vocab_size": len(words), "d_model": 32, "encoder_layers": 1, "decoder_layers": 1,
        "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
        "max_position_embeddings": 128,
    }  # fmt: skip
    vision = {
        "embed_dim": [16] * 4, "num_heads": [2] * 4, "num_groups": [2] * 4, "depths": [1] * 4, "patch_size": [7, 3, 3, 3],
        "window_size": 4, "projection_dim": 32, "max_temporal_embeddings": 10, "max_position_embeddings": 50,
    }  # fmt: skip
    config = t.Florence2Config(text_config=text, vision_config=vision, image_token_id=words.convert_tokens_to_ids("<image>"))
    model = t.Florence2ForConditionalGeneration(config)
    model.generation_config.update(**ends, max_length=None)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return _prepares(folder, size={"height": 64, "width": 64})


def blip2(folder: Path) -> Path:
    """BLIP-2 with T5, for squares of 32 pixels, which are 4 tokens."""
    from tests.images.tiny import t5_tokenizer

    words = t5_tokenizer()
    words.add_tokens(["<image>"], special_tokens=True)
    text = {"model_type": "t5", "vocab_size": len(words), "d_model": 32, "d_ff": 64, "d_kv": 16, "num_layers": 1, "num_heads": 2}
    return _blip2(folder, words, text | {"decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1})


def blip2_opt(folder: Path) -> Path:
    """BLIP-2 with OPT, whose `generate` repeats the prompt; words are bytes."""
    words = bart_tokenizer()
    ends = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    sizes = {"hidden_size": 32, "ffn_dim": 64, "word_embed_proj_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return _blip2(folder, words, {"model_type": "opt", "vocab_size": len(words), "max_position_embeddings": 128} | sizes | ends)


def _blip2(folder: Path, words, text: dict) -> Path:
    import torch
    import transformers as t

    torch.manual_seed(8)
    layer = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = t.Blip2Config(
        vision_config=layer | {"image_size": 32, "patch_size": 8},
        qformer_config=layer | {"vocab_size": 100, "num_hidden_layers": 2, "encoder_hidden_size": 32, "cross_attention_frequency": 2},
        text_config=text,
        num_query_tokens=4, image_token_index=words.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    model = t.Blip2ForConditionalGeneration(config)
    if text["model_type"] == "t5":
        model.generation_config.decoder_start_token_id = 0
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return _prepares(folder, size={"height": 32, "width": 32})


def qwen2_5_vl(folder: Path, model: str = "Qwen2_5_VL", **vision: object) -> Path:
    """Patches of 14 pixels."""
    import torch
    import transformers as t

    torch.manual_seed(9)
    words = _qwen_tokenizer()
    text = {
        "vocab_size": len(words), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 512,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]},
    }  # fmt: skip
    sees = {
        "depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "spatial_merge_size": 2, "temporal_patch_size": 2,
        "out_hidden_size": 32,
    }  # fmt: skip
    own = {"patch_size": 14, "window_size": 56, "fullatt_block_indexes": [1]} if model == "Qwen2_5_VL" else vision
    marks = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"}
    tokens = {f"{name}_token_id": words.convert_tokens_to_ids(f"<|{mark}|>") for name, mark in marks.items()}
    config = getattr(t, f"{model}Config")(text_config=text, vision_config=sees | own, **tokens)
    getattr(t, f"{model}ForConditionalGeneration")(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def qwen3_vl(folder: Path) -> Path:
    """Patches of 16 pixels."""
    return qwen2_5_vl(folder, "Qwen3VL", patch_size=16, num_position_embeddings=64, deepstack_visual_indexes=[0])


def _qwen_tokenizer():
    from transformers import Qwen2Tokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    words = Qwen2Tokenizer(vocab={token: n for n, token in enumerate([*bytes_to_unicode().values(), "<|endoftext|>"])}, merges=[])
    names = ("im_start", "im_end", "vision_start", "vision_end", "image_pad", "video_pad")
    words.add_tokens([f"<|{name}|>" for name in names], special_tokens=True)
    return words


def llava(folder: Path) -> Path:
    """LLaVA, whose whole processor needs no torchvision: transformers' own server takes pictures with it. 32 pixels, 16 tokens."""
    import torch
    import transformers as t
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    torch.manual_seed(12)
    words = _qwen_tokenizer()
    words.add_tokens(["<image>"], special_tokens=True)
    words.add_special_tokens({"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})
    layer = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    text = {"model_type": "llama", "vocab_size": len(words), "num_hidden_layers": 1, "max_position_embeddings": 2048, "bos_token_id": None}
    vision = {"model_type": "clip_vision_model", "num_hidden_layers": 2, "image_size": 32, "patch_size": 8, "projection_dim": 32}
    config = t.LlavaConfig(
        vision_config=vision | layer,
        text_config=text | layer | {"eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id},
        image_token_index=words.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
    )
    t.LlavaForConditionalGeneration(config).save_pretrained(folder)
    template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}"
        "{% if c['type'] == 'image' %}<image>{% elif c['type'] == 'text' %}{{ c['text'] }}{% endif %}"
        "{% endfor %}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
    )
    sees = CLIPImageProcessorPil(size={"height": 32, "width": 32}, do_center_crop=False)
    t.LlavaProcessor(sees, words, 8, "default", template, num_additional_image_tokens=1).save_pretrained(folder)
    return folder


def bart_tokenizer():
    from transformers import BartTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    tokens = ["<s>", "<pad>", "</s>", "<unk>", *bytes_to_unicode().values(), "<mask>"]
    words = BartTokenizer(vocab={token: n for n, token in enumerate(tokens)}, merges=[])
    words.add_tokens([f"<loc_{n}>" for n in range(1000)] + ["<image>"], special_tokens=True)
    return words


_DECODER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_dim": 64, "iou_head_hidden_dim": 32}


def sam(folder: Path, model: str = "Sam", **decoder: int) -> Path:
    """For squares of 64 pixels in patches of 8."""
    import torch
    import transformers as t

    torch.manual_seed(5)
    vision = {
        "hidden_size": 32, "output_channels": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 64, "patch_size": 8,
        "mlp_dim": 64, "window_size": 4, "global_attn_indexes": [1], "num_pos_feats": 16,
    }  # fmt: skip
    prompts = {"hidden_size": 32, "image_size": 64, "patch_size": 8, "mask_input_channels": 4}
    config = getattr(t, f"{model}Config")(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=_DECODER | decoder)
    getattr(t, f"{model}Model")(config).save_pretrained(folder)
    return _prepares(folder, size={"longest_edge": 64}, pad_size={"height": 64, "width": 64})


def sam_hq(folder: Path) -> Path:
    return sam(folder, "SamHQ", vit_dim=32)


def sam2(folder: Path, model: str = "Sam2") -> Path:
    """For squares of 128 pixels."""
    import torch
    import transformers as t

    torch.manual_seed(6)
    trunk = t.Sam2HieraDetConfig(
        hidden_size=16, image_size=[128, 128], num_attention_heads=1, blocks_per_stage=[1, 2, 2, 2], embed_dim_per_stage=[16, 32, 64, 128],
        num_attention_heads_per_stage=[1, 2, 4, 8], window_size_per_stage=[8, 4, 4, 2], global_attention_blocks=[4],
        window_positional_embedding_background_size=[4, 4],
    )  # fmt: skip
    vision = t.Sam2VisionConfig(
        backbone_config=trunk, backbone_channel_list=[128, 64, 32, 16], backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
        fpn_hidden_size=32,
    )  # fmt: skip
    prompts = {"hidden_size": 32, "image_size": 128, "patch_size": 16, "mask_input_channels": 4}
    config = getattr(t, f"{model}Config")(
        vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=_DECODER | {"num_hidden_layers": 1}
    )
    getattr(t, f"{model}Model")(config).save_pretrained(folder)
    return _prepares(folder, size={"height": 128, "width": 128})


def sam3(folder: Path, video: bool = False) -> Path:
    """For squares of 112 pixels, 10 queries, texts of 32 tokens, which are letters. video: saved as the published folder is, with the
    tracker of videos beside the detector."""
    import torch
    import transformers as t

    from tests.images.tiny import clip_tokenizer

    torch.manual_seed(11)
    words = clip_tokenizer(folder)
    layer = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    ends = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
    text = {"model_type": "clip_text_model", "vocab_size": len(words), "projection_dim": 32, "max_position_embeddings": 32}
    sees = {
        "model_type": "sam3_vit_model", "num_hidden_layers": 2, "image_size": 112, "patch_size": 14, "window_size": 4,
        "global_attn_indexes": [1], "pretrain_image_size": 56,
    }  # fmt: skip
    config = t.Sam3Config(
        vision_config={
            "backbone_config": sees | layer, "fpn_hidden_size": 32, "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
        },
        text_config=text | layer | ends | {"num_hidden_layers": 1},
        geometry_encoder_config=layer | {"num_layers": 1},
        detr_encoder_config=layer | {"num_layers": 1},
        detr_decoder_config=layer | {"num_layers": 1, "num_queries": 10},
        mask_decoder_config={"hidden_size": 32, "num_upsampling_stages": 2, "num_attention_heads": 2},
    )  # fmt: skip
    model = t.Sam3Model(config)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    if video:
        _as_of_the_video_model(folder)
    settings = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 112, "width": 112}}
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": settings, "processor_class": "Sam3Processor"}))
    return folder


def _as_of_the_video_model(folder: Path) -> None:
    """facebook/sam3's form: model_type sam3_video, the detector's tensors below `detector_model.`, others beside."""
    import numpy as np
    from safetensors.numpy import load_file, save_file

    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({"model_type": "sam3_video", "detector_config": config}))
    weights = {f"detector_model.{name}": value for name, value in load_file(folder / "model.safetensors").items()}
    weights |= {f"{part}.weight": np.zeros(4, np.float32) for part in ("tracker_model.mask_decoder", "tracker_neck.fpn")}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def spoiled(folder: Path, part: str) -> Path:
    """The folder, with not-a-number in all tensors whose name holds `part`."""
    import numpy as np
    from safetensors.numpy import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    chosen = [name for name in weights if part in name]
    assert chosen, f"none of {sorted(weights)} holds {part}"
    weights |= {name: np.full_like(weights[name], np.nan) for name in chosen}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def _prepares(folder: Path, **settings: object) -> Path:
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder
