"""Writes tests/vectors/gguf/*.gguf, tiny random models in GGUF, and models.json: what transformers
computes for each on the values that the `gguf` package dequantises, in float32.

    python tests/parity/make_gguf_models.py      # needs torch, transformers, gguf, numpy

A file is written as llama.cpp's converter writes it: queries and keys of llama models permuted, the
frequencies of a Llama 3 model's scaling as rope_freqs.weight.
"""
import json
import math
import pathlib

import gguf
import numpy as np
import torch
import transformers
from gguf.quants import dequantize, quantize

OUT = pathlib.Path(__file__).resolve().parent.parent / "vectors" / "gguf"
IDS = [5, 1, 17, 30, 22, 9, 9, 3, 28, 14, 6, 11]
HIDDEN, FFN, HEADS, KV_HEADS, LAYERS, VOCAB = 32, 64, 4, 2, 2, 40
NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
BLOCK_NAMES = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.qkv_proj": "attn_qkv",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "mlp.gate_up_proj": "ffn_up"}
# Types of the matrices, taken in turn; vectors are F32.
TYPES = ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "F16", "BF16", "F32"]


def gguf_name(name):
    stem, kind = name.rsplit(".", 1)
    if not stem.startswith("model.layers."):
        return f"{NAMES[stem]}.{kind}"
    _, _, block, rest = stem.split(".", 3)
    return f"blk.{block}.{BLOCK_NAMES[rest]}.{kind}"


def permute(values, heads):
    return (values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
            .swapaxes(1, 2).reshape(values.shape))


def unpermute(values, heads):
    return (values.reshape(heads, values.shape[0] // heads // 2, 2, *values.shape[1:])
            .swapaxes(1, 2).reshape(values.shape))


def write_tensor(writer, name, values, kind):
    """Returns what the file then holds."""
    if kind is None:
        writer.add_tensor(name, values)
        return values
    number = gguf.GGMLQuantizationType[kind]
    raw = quantize(values, number)
    writer.add_tensor(name, raw, raw_dtype=number)
    return dequantize(raw, number).astype(np.float32)


def llama3_factors(config):
    """As llama.cpp's converter computes them from rope_type llama3."""
    scaling = config.rope_parameters
    dim = config.head_dim
    base = scaling["rope_theta"]
    factors = []
    for i in range(0, dim, 2):
        freq = 1.0 / base ** (i / dim)
        wavelen = 2 * math.pi / freq
        old = scaling["original_max_position_embeddings"]
        low, high = old / scaling["low_freq_factor"], old / scaling["high_freq_factor"]
        if wavelen < high:
            factors.append(1.0)
        elif wavelen > low:
            factors.append(scaling["factor"])
        else:
            smooth = ((old / wavelen - scaling["low_freq_factor"])
                      / (scaling["high_freq_factor"] - scaling["low_freq_factor"]))
            factors.append(1 / ((1 - smooth) / scaling["factor"] + smooth))
    return np.array(factors, dtype=np.float32)


def vocabulary(writer, n):
    """Byte-level letters and a merge, with a control token, a user's and an unused one."""
    letters = [chr(ord("a") + i) for i in range(26)]
    tokens = ["<|im_start|>", "<|im_end|>", "<tool>", "[PAD3]", "\u0120", "1", "2"] + letters
    tokens += ["th", "the", "\u0120the"]
    kinds = [3, 3, 4, 5] + [1] * (len(tokens) - 4)
    tokens += [f"[PAD{i}]" for i in range(len(tokens), n)]
    kinds += [5] * (n - len(kinds))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(["t h", "th e", "\u0120 the"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_pad_token_id(1)
    writer.add_add_bos_token(False)
    writer.add_chat_template("{{ messages[0]['content'] }}")


def make(file_name, arch, model, extra=lambda writer: None, permuted=False, ids=tuple(IDS)):
    config = model.config
    writer = gguf.GGUFWriter(OUT / file_name, arch)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(VOCAB)
    extra(writer)
    vocabulary(writer, VOCAB)
    state, turn = model.state_dict(), 0
    for name, tensor in list(state.items()):
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values = tensor.numpy().copy()
        heads = HEADS if "q_proj" in name else KV_HEADS if "k_proj" in name else 0
        if permuted and heads:
            values = permute(values, heads)
        kind = None
        if values.ndim == 2:
            kind = TYPES[turn % len(TYPES)]
            turn += 1
        values = write_tensor(writer, gguf_name(name), values, kind)
        if permuted and heads:
            values = unpermute(values, heads)
        state[name].copy_(torch.from_numpy(np.ascontiguousarray(values)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0]
    rows = [0, 5, len(ids) - 1]
    return {"file": file_name, "ids": ids, "rows": rows,
            "logits": [[round(float(x), 6) for x in logits[row]] for row in rows]}


def random_model(kind, config):
    torch.manual_seed(7)
    model = kind(config)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if name.endswith("norm.weight"):
                tensor.uniform_(0.5, 1.5)
            else:
                tensor.normal_(0, 0.5 if "bias" in name else 0.15)
    model.tie_weights()
    return model.eval()


def shape(**more):
    values = dict(vocab_size=VOCAB, hidden_size=HIDDEN, intermediate_size=FFN,
                  num_hidden_layers=LAYERS, num_attention_heads=HEADS,
                  num_key_value_heads=KV_HEADS, max_position_embeddings=256, rms_norm_eps=1e-5,
                  bos_token_id=0, eos_token_id=1, pad_token_id=1)
    return values | more


def theta(base, **more):
    return {"rope_parameters": {"rope_type": "default", "rope_theta": base} | more}


def main():
    t = transformers
    llama3 = t.LlamaConfig(**shape(tie_word_embeddings=False, attention_bias=True, head_dim=16),
                           rope_parameters={"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0,
                                            "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                            "original_max_position_embeddings": 32})
    half = HIDDEN // HEADS // 2
    phi3 = t.Phi3Config(**shape(tie_word_embeddings=False, max_position_embeddings=256,
                                sliding_window=20),
                        original_max_position_embeddings=64,
                        rope_parameters={"rope_type": "longrope", "rope_theta": 1e4,
                                         "short_factor": [1.0 + 0.1 * i for i in range(half)],
                                         "long_factor": [2.0 + 0.5 * i for i in range(half)],
                                         "original_max_position_embeddings": 64})
    attention = math.sqrt(1 + math.log(256 / 64) / math.log(64))
    longer = (IDS * 6)[:70]

    def llama3_extra(writer):
        writer.add_rope_dimension_count(16)
        writer.add_key_length(16)
        writer.add_value_length(16)
        writer.add_tensor("rope_freqs.weight", llama3_factors(llama3))

    def phi3_extra(writer):
        scaling = phi3.rope_parameters
        writer.add_rope_dimension_count(HIDDEN // HEADS)
        writer.add_sliding_window(20)
        writer.add_rope_scaling_orig_ctx_len(64)
        writer.add_rope_scaling_attn_factors(attention)
        for kind in ("long", "short"):
            writer.add_tensor(f"rope_factors_{kind}.weight",
                              np.array(scaling[f"{kind}_factor"], dtype=np.float32))

    def linear(writer):
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(4.0)

    def yarn(writer):
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(4.0)
        writer.add_rope_scaling_orig_ctx_len(64)

    cases = [
        make("llama.gguf", "llama",
             random_model(t.LlamaForCausalLM, t.LlamaConfig(
                 **shape(tie_word_embeddings=True), **theta(1e4))),
             lambda w: w.add_rope_dimension_count(HIDDEN // HEADS), permuted=True),
        make("llama3.gguf", "llama", random_model(t.LlamaForCausalLM, llama3), llama3_extra,
             permuted=True, ids=longer),
        make("qwen2.gguf", "qwen2",
             random_model(t.Qwen2ForCausalLM, t.Qwen2Config(
                 **shape(tie_word_embeddings=False), **theta(1e6, rope_type="yarn", factor=4.0,
                                                             original_max_position_embeddings=64))),
             yarn, ids=longer),
        make("qwen3.gguf", "qwen3",
             random_model(t.Qwen3ForCausalLM, t.Qwen3Config(
                 **shape(tie_word_embeddings=True, head_dim=16),
                 **theta(1e6, rope_type="linear", factor=4.0))),
             lambda w: (w.add_key_length(16), w.add_value_length(16), linear(w))),
        make("phi3.gguf", "phi3", random_model(t.Phi3ForCausalLM, phi3), phi3_extra),
        make("phi3_long.gguf", "phi3", random_model(t.Phi3ForCausalLM, phi3), phi3_extra,
             ids=longer),
    ]
    (OUT / "phi3_long.gguf").unlink()  # the same file
    cases[-1]["file"] = "phi3.gguf"
    (OUT / "models.json").write_text(
        "[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")


if __name__ == "__main__":
    main()
