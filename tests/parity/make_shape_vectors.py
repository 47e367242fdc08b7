#!/usr/bin/env python3
"""Logits of tiny random models, as transformers computes them (eager attention, float32).

    make_shape_vectors.py > tests/vectors/shapes.json

Needs torch, transformers and numpy. The weights are no file: both sides take them from one small
generator (tests/model/made_weights.c), so what is stored are the configurations and some logits of
each. tests/model/test_shapes.c reads the result.
"""
import itertools
import json
import os
import sys
import tempfile

import numpy
import torch
import transformers

MASK = (1 << 64) - 1
VOCAB = 96
LENGTHS = (8, 600)
SHOWN = 16  # logits of a position that are stored

BASE = {
    "hidden_act": "silu",
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-05,
    "tie_word_embeddings": False,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
FAMILIES = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3", "phi3": "Phi3"}


def draws(name, n):
    """splitmix64 from the FNV-1a hash of the name: the top 24 bits, in [-0.5, 0.5)."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 & MASK
    with numpy.errstate(over="ignore"):
        z = numpy.uint64(seed) + numpy.arange(1, n + 1, dtype=numpy.uint64) * numpy.uint64(0x9E3779B97F4A7C15)
        z = (z ^ z >> numpy.uint64(30)) * numpy.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ z >> numpy.uint64(27)) * numpy.uint64(0x94D049BB133111EB)
        z = z ^ z >> numpy.uint64(31)
    return (z >> numpy.uint64(40)).astype(numpy.float64) / (1 << 24) - 0.5


def values(name, shape):
    """As tests/model/made_weights.c writes them with a scale of 1/2."""
    made = draws(name, int(numpy.prod(shape)))
    made = 1 + made / 2 if "norm" in name else made / 2
    return torch.from_numpy(made.astype(numpy.float32).reshape(shape))


def tokens(n):
    return [2 + int((draw + 0.5) * (VOCAB - 2)) for draw in draws("tokens", n)]


def rope_kinds(pairs):
    ramp = [round(1 + 0.35 * i, 3) for i in range(pairs)]
    steep = [round(1.5 + 1.75 * i, 3) for i in range(pairs)]
    longrope = {"short_factor": ramp, "long_factor": steep}
    return {
        "default": {"rope_theta": 10000.0},
        "linear": {"rope_theta": 500000.0, "rope_scaling": {"type": "linear", "factor": 2.5}},
        "dynamic": {"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}},
        "yarn": {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}},
        "yarn betas": {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 1000000.0,
                "factor": 8.0,
                "beta_fast": 16,
                "beta_slow": 2,
                "truncate": False,
                "original_max_position_embeddings": 128,
            }
        },
        "yarn mscale": {
            "original_max_position_embeddings": 64,
            "rope_theta": 10000.0,
            "rope_scaling": {
                "type": "yarn",
                "factor": None,
                "mscale": 1.4,
                "mscale_all_dim": 0.7,
                "original_max_position_embeddings": 512,
            },
        },
        "yarn attention": {
            "rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 2, "attention_factor": 1.25}
        },
        "longrope": {
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "original_max_position_embeddings": 256,
                **longrope,
            }
        },
        "longrope factor": {
            "original_max_position_embeddings": 700,
            "rope_scaling": {"type": "longrope", "factor": 3.0, "attention_factor": 1.1, **longrope},
        },
        "llama3": {
            "rope_theta": 500000.0,
            "rope_parameters": {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 128,
            },
        },
    }


def phi3_ropes(pairs):
    kinds = rope_kinds(pairs)
    factors = {key: kinds["longrope"]["rope_parameters"][key] for key in ("short_factor", "long_factor")}
    return {
        "default": {},
        "longrope 4096": {"rope_scaling": {"type": "longrope", **factors}},
        "longrope": {
            "original_max_position_embeddings": 256,
            "rope_theta": 10000.0,
            "rope_scaling": {"type": "longrope", **factors},
        },
        "su": {
            "original_max_position_embeddings": 128,
            "rope_scaling": {"type": "su", "original_max_position_embeddings": 128, **factors},
        },
        "yarn is longrope": {"original_max_position_embeddings": 512, "rope_parameters": {"rope_type": "yarn", **factors}},
        "longrope attention": {
            "original_max_position_embeddings": 300,
            "rope_parameters": {"rope_type": "longrope", "attention_factor": 0.9, "rope_theta": 50000.0, **factors},
        },
    }


def switched_windows():
    types = ["sliding_attention", "full_attention", "sliding_attention"]
    return {
        "no window": {"use_sliding_window": False, "sliding_window": 20},
        "upper window": {"use_sliding_window": True, "sliding_window": 70, "max_window_layers": 1},
        "named windows": {"use_sliding_window": True, "sliding_window": 5, "layer_types": types},
    }


def plain_windows():
    return {
        "no window": {"sliding_window": None},
        "window 3": {"sliding_window": 3},
        "window 64": {"sliding_window": 64},
        "window 333": {"sliding_window": 333},
    }


def cases():
    """(name, model type, head, changes to BASE); the less telling choices go round."""
    heads = itertools.cycle([
        {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16},
        {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 12},
        {"num_attention_heads": 6, "num_key_value_heads": 1, "head_dim": 8},
        {"num_attention_heads": 3, "num_key_value_heads": 3},
        {"num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 20},
    ])
    ties = itertools.cycle([False, True, False])
    no = {"": {}}
    biases = {"bias": {"attention_bias": True}, "no bias": {"attention_bias": False}}
    llama_biases = {
        "no bias": {},
        "attention bias": {"attention_bias": True},
        "mlp bias": {"mlp_bias": True},
        "biases": {"attention_bias": True, "mlp_bias": True},
    }
    families = [
        ("llama", llama_biases, no),
        ("mistral", no, plain_windows()),
        ("qwen2", no, switched_windows()),
        ("qwen3", biases, switched_windows()),
    ]
    for family, bias_kinds, window_kinds in families:
        for rope in rope_kinds(1):
            for bias, window in itertools.product(bias_kinds, window_kinds):
                shape = next(heads)
                if family == "llama":  # which wants hidden_size to be a multiple
                    shape = {"num_attention_heads": 4, **{k: v for k, v in shape.items() if k == "head_dim"}}
                dim = shape.get("head_dim", 48 // shape["num_attention_heads"])
                if family == "qwen3":
                    shape = {**shape, "head_dim": dim}
                change = {**shape, **bias_kinds[bias], **window_kinds[window], **rope_kinds(dim // 2)[rope]}
                change["tie_word_embeddings"] = next(ties)
                yield " ".join(filter(None, (family, rope, bias, window))), family, "lm", change
    phi3_heads = itertools.cycle([(6, 2), (3, 3), (6, 1), (2, 1)])
    for partial in (1.0, 0.75, 0.5):
        for rope in phi3_ropes(1):
            for window in ("no window", "window 64"):
                n_heads, n_kv_heads = next(phi3_heads)
                dim = int(48 // n_heads * partial)
                change = {
                    "num_attention_heads": n_heads,
                    "num_key_value_heads": n_kv_heads,
                    "partial_rotary_factor": partial,
                    "tie_word_embeddings": next(ties),
                    **plain_windows()[window],
                    **phi3_ropes(dim // 2)[rope],
                }
                yield f"phi3 {rope} partial {partial} {window}", "phi3", "lm", change
    for family in FAMILIES:
        for window in (None, 40):
            change = {"num_labels": 1, "sliding_window": window, "use_sliding_window": window is not None}
            change["max_window_layers"] = 1
            yield f"{family} class {window}", family, "class", change
    # What the classes assume where config.json says nothing.
    for family in FAMILIES:
        absent = {"rms_norm_eps", "tie_word_embeddings"}
        change = {key: "absent" for key in absent}
        change["num_attention_heads"] = 8
        if family == "mistral":
            change["num_key_value_heads"] = "absent"  # 8
        yield f"{family} defaults", family, "lm", change


def model_of(config):
    with tempfile.TemporaryDirectory() as directory:
        with open(os.path.join(directory, "config.json"), "w") as file:
            json.dump(config, file)
        read = transformers.AutoConfig.from_pretrained(directory)
    kind = transformers.AutoModelForCausalLM
    if config["architectures"][0].endswith("SequenceClassification"):
        kind = transformers.AutoModelForSequenceClassification
    assert kind._model_mapping[type(read)].__name__ == config["architectures"][0]
    model = kind.from_config(read, attn_implementation="eager", dtype=torch.float32).eval()
    tied = read.tie_word_embeddings and hasattr(model, "lm_head")
    for name, parameter in model.state_dict().items():
        if not (tied and name == "lm_head.weight"):
            parameter.copy_(values(name, tuple(parameter.shape)))
    if tied:
        assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    return model


def rounded(tensor):
    return [float(f"{float(x):.6g}") for x in tensor]


def vector(name, family, head, change):
    config = {**BASE, "model_type": family, **change}
    suffix = "ForCausalLM" if head == "lm" else "ForSequenceClassification"
    config["architectures"] = [FAMILIES[family] + suffix]
    for key in [key for key, value in config.items() if isinstance(value, str) and value == "absent"]:
        del config[key]
    model = model_of(config)
    runs = []
    for n in LENGTHS:
        with torch.no_grad():
            logits = model(torch.tensor([tokens(n)]), use_cache=False).logits[0]
        assert torch.isfinite(logits).all()
        if head == "class":
            runs.append({"n": n, "score": rounded(logits)[0]})
            continue
        for position in (n - 1,) if n < 100 else (n // 2, n - 1):
            row = logits[position]
            step = VOCAB // SHOWN
            shown = [i * step + (position + i) % step for i in range(SHOWN)]
            runs.append({
                "n": n,
                "position": position,
                "norm": rounded([row.norm()])[0],
                "logits": rounded(row[shown]),
            })
    stated = {**change, "architectures": config["architectures"], "model_type": family}
    return {"name": name, "config": stated, "runs": runs}


def main():
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    vectors = []
    for case in cases():
        try:
            vectors.append(vector(*case))
        except Exception as error:
            raise SystemExit(f"{case[0]}: {type(error).__name__}: {error}") from error
    print('{"transformers": "%s", "torch": "%s",' % (transformers.__version__, torch.__version__.split("+")[0]))
    print('"base": %s,' % json.dumps(BASE))
    lines = [json.dumps(v, separators=(",", ":")) for v in vectors]
    print('"vectors": [\n%s\n]}' % ",\n".join(lines))
    print(f"{len(vectors)} configurations", file=sys.stderr)


if __name__ == "__main__":
    main()
