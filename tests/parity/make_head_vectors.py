"""Vectors of model heads: what transformers (and small torch modules in the shape of safe-rlhf's and
TRL's) give for tiny models. tests/model/test_heads.c builds the same directories and compares.

    python tests/parity/make_head_vectors.py tests/vectors/heads.json

A tensor is made from its name alone, so the vectors hold names and shapes instead of weights; see
made_tensor below and tests/model/made_weights.c, which must agree bit for bit.
Needs torch, transformers, safetensors, numpy.
"""

import json
import pathlib
import re
import sys
import tempfile

import numpy as np
import torch
import transformers
from safetensors.torch import save_file

HIDDEN, FFN, LAYERS, HEADS, KV_HEADS, VOCAB = 16, 24, 2, 4, 2, 48
IDS = [1, 5, 9, 33, 7, 20, 30, 4, 11, 2]


def fnv1a(text):
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def made_tensor(name, shape):
    """Uniform in [-0.5, 0.5), of norms in [0.75, 1.25): the top 24 bits of splitmix64."""
    count = int(np.prod(shape))
    with np.errstate(over="ignore"):
        z = np.uint64(fnv1a(name)) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(
            0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    values = (z >> np.uint64(40)).astype(np.float64) / 2**24 - 0.5
    if "norm" in name and "normalizer" not in name:
        values = 1 + values / 2
    return torch.from_numpy(values.astype(np.float32)).reshape(shape)


def config_of(model_class, **changes):
    config = {
        "architectures": [model_class],
        "model_type": re.match(r"Llama|Mistral|Qwen2|Qwen3|Phi3", model_class).group().lower(),
        "vocab_size": VOCAB, "hidden_size": HIDDEN, "intermediate_size": FFN,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2,
        "head_dim": HIDDEN // HEADS, "pad_token_id": None,
    }
    config.update(changes)
    return {key: value for key, value in config.items() if value is not ...}


def body(model_type):
    """Names and shapes of everything below the head."""
    head_dim = HIDDEN // HEADS
    shapes = {"model.embed_tokens.weight": [VOCAB, HIDDEN], "model.norm.weight": [HIDDEN]}
    kv = KV_HEADS * head_dim
    products = [("self_attn.q_proj", HIDDEN, HIDDEN), ("self_attn.k_proj", kv, HIDDEN),
                ("self_attn.v_proj", kv, HIDDEN), ("mlp.gate_proj", FFN, HIDDEN),
                ("mlp.up_proj", FFN, HIDDEN)]
    if model_type == "phi3":
        products = [("self_attn.qkv_proj", HIDDEN + 2 * kv, HIDDEN),
                    ("mlp.gate_up_proj", 2 * FFN, HIDDEN)]
    products += [("self_attn.o_proj", HIDDEN, HIDDEN), ("mlp.down_proj", HIDDEN, FFN)]
    for layer in range(LAYERS):
        for name, rows, cols in products:
            shapes[f"model.layers.{layer}.{name}.weight"] = [rows, cols]
            if model_type == "qwen2" and name[10:] in ("q_proj", "k_proj", "v_proj"):
                shapes[f"model.layers.{layer}.{name}.bias"] = [rows]
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"model.layers.{layer}.{name}.weight"] = [HIDDEN]
        if model_type == "qwen3":
            for name in ("q_norm", "k_norm"):
                shapes[f"model.layers.{layer}.self_attn.{name}.weight"] = [head_dim]
    return shapes


class Case:
    def __init__(self, name, config, head, made_as=None, profile=None):
        self.name, self.config, self.profile = name, config, profile
        self.shapes = {**body(config["model_type"]), **head}
        self.made_as = made_as or {}  # tensor -> the name whose values it has

    def tensors(self):
        return {name: made_tensor(self.made_as.get(name, name), shape)
                for name, shape in self.shapes.items()}

    def load(self, model_class):
        """What from_pretrained makes of the directory."""
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory)
            (path / "config.json").write_text(json.dumps(self.config))
            save_file(self.tensors(), path / "model.safetensors", metadata={"format": "pt"})
            model = model_class.from_pretrained(path, dtype=torch.float32)
        return model.eval()

    def vectors(self, **results):
        record = {"name": self.name, "config": self.config, "shapes": self.shapes, "ids": IDS}
        if self.made_as:
            record["made_as"] = self.made_as
        if self.profile is not None:
            record["profile"] = self.profile
        for key, value in results.items():
            record[key] = [round(float(x), 6) for x in value]
        return record


@torch.no_grad()
def lm_vectors(case):
    model = case.load(transformers.AutoModelForCausalLM)
    return case.vectors(logits=model(torch.tensor([IDS])).logits[0, -1])


def normalized(config, scores, tensors):
    """safe-rlhf's normalizer: do_normalize is false unless the configuration says otherwise."""
    if not config.get("do_normalize", False):
        return scores
    mean = tensors.get("normalizer.mean", torch.tensor(config.get("mean", [0.0])))
    var = tensors.get("normalizer.var", torch.tensor(config.get("var", [1.0])))
    kind = config.get("score_type", "reward")
    if kind == "reward":
        return (scores - mean) / (var.sqrt() + 1e-8)
    return scores / (var.sqrt() + 1e-8) if kind == "cost" else scores


@torch.no_grad()
def beaver_vectors(case):
    """safe-rlhf's score model: a linear head on every state, then the normalizer."""
    states = states_of(case)
    tensors = case.tensors()
    scores = states @ tensors["score_head.weight"].T
    if case.config.get("score_bias", case.config.get("bias", True)):
        scores = scores + tensors.get("score_head.bias", 0)
    return case.vectors(scores=normalized(case.config, scores, tensors)[:, 0])


@torch.no_grad()
def states_of(case):
    """Hidden states after the last norm: of the bare model under the same weights."""
    name = case.config["architectures"][0]
    base = re.sub("ForCausalLM|ForSequenceClassification|ForScore|ModelForScore", "Model", name)
    plain = Case(case.name, {**case.config, "architectures": [base]}, {})
    return plain.load(transformers.AutoModel)(torch.tensor([IDS])).last_hidden_state[0]


@torch.no_grad()
def class_vectors(case):
    """Scores at every position: of each text the class pools its last token, there being no pad."""
    logits = torch.stack([
        case.load(transformers.AutoModelForSequenceClassification)(
            torch.tensor([IDS[:n]])).logits[0] for n in range(1, len(IDS) + 1)])
    profile = case.profile or {}
    label = profile.get("label", 0)
    names = case.config.get("id2label", {})
    label = next((int(k) for k, v in names.items() if v == label), label)
    apart = case.config.get("problem_type") in ("regression", "multi_label_classification")
    kind = profile.get("label_score", "logit" if apart or logits.shape[1] == 1 else "log-odds")
    probability = torch.softmax(logits.double(), dim=1)[:, label]
    scores = {"logit": lambda: logits[:, label], "probability": lambda: probability,
              "log-odds": lambda: torch.log(probability / (1 - probability))}[kind]()
    return case.vectors(scores=scores)


@torch.no_grad()
def value_vectors(case):
    """TRL's ValueHead: a linear summary of the last states, at every position."""
    tensors = case.tensors()
    scores = torch.nn.functional.linear(states_of(case), tensors["v_head.summary.weight"],
                                        tensors.get("v_head.summary.bias"))
    return case.vectors(scores=scores[:, 0])


FAMILIES = ("Llama", "Mistral", "Qwen2", "Qwen3", "Phi3")


def class_cases():
    for kind in FAMILIES:
        name = kind + "ForSequenceClassification"
        one = {"id2label": {"0": "LABEL_0"}}
        yield Case(f"{kind}, one label", config_of(name, **one), {"score.weight": [1, HIDDEN]})
        two = {"id2label": {"0": "safe", "1": "unsafe"}, "label2id": {"safe": 0, "unsafe": 1}}
        yield Case(f"{kind}, two labels, one by its name", config_of(name, **two),
                   {"score.weight": [2, HIDDEN]}, profile={"schema": 1, "label": "unsafe"})
    name = "LlamaForSequenceClassification"
    head = {"score.weight": [3, HIDDEN]}
    three = {"id2label": {str(i): f"LABEL_{i}" for i in range(3)}}
    for kind in (None, "logit", "log-odds", "probability"):
        profile = {"schema": 1, "label": 2, **({"label_score": kind} if kind else {})}
        yield Case(f"three labels, one by its index, {kind}", config_of(name, **three), head,
                   profile=profile)
    for problem in ("regression", "multi_label_classification", "single_label_classification"):
        yield Case(f"three labels, {problem}", config_of(name, problem_type=problem, **three), head,
                   profile={"schema": 1, "label": "LABEL_1"})
    yield Case("two labels, nothing said of them", config_of(name), {"score.weight": [2, HIDDEN]},
               profile={"schema": 1, "label": 0})


def value_cases():
    head = {"v_head.summary.weight": [1, HIDDEN], "v_head.summary.bias": [1]}
    profile = {"schema": 1, "role": "reward", "head": "value"}
    for kind in FAMILIES:
        yield Case(f"{kind} with TRL's value head", config_of(kind + "ForCausalLM"),
                   {"lm_head.weight": [VOCAB, HIDDEN], **head}, profile=profile)
    yield Case("a value head, no bias, tied", config_of("LlamaForCausalLM",
                                                        tie_word_embeddings=True),
               {"v_head.summary.weight": [1, HIDDEN]}, profile=profile)


def lm_cases():
    other = {"lm_head.weight": [VOCAB, HIDDEN]}
    copy = {"lm_head.weight": "model.embed_tokens.weight"}
    for kind in FAMILIES:
        name = kind + "ForCausalLM"
        yield Case(kind + " untied", config_of(name, tie_word_embeddings=False), other)
        yield Case(kind + " tied", config_of(name, tie_word_embeddings=True), {})
    name = "LlamaForCausalLM"
    yield Case("tied, an equal copy is stored", config_of(name, tie_word_embeddings=True), other,
               made_as=copy)
    yield Case("tied, another head is stored", config_of(name, tie_word_embeddings=True), other)
    swapped = Case("tied, stored as the head", config_of(name, tie_word_embeddings=True), other)
    del swapped.shapes["model.embed_tokens.weight"]
    yield swapped
    yield Case("no flag, a head is stored", config_of(name), other)


def beaver_cases():
    head = {"score_head.weight": [1, HIDDEN]}
    bias = {"score_head.bias": [1]}
    buffers = {"normalizer.mean": [1], "normalizer.var": [1]}
    made = {"normalizer.var": "model.norm.weight"}  # a variance is not negative
    for model_class in ("LlamaForScore", "LlamaModelForScore"):
        for kind in ({}, {"score_type": "cost"}, {"score_type": "reward"}, {"score_type": "critic"}):
            for flag in ({}, {"do_normalize": False}, {"do_normalize": True}):
                config = config_of(model_class, mean=[0.25], var=[2.25], **kind, **flag)
                label = " ".join([model_class, *(f"{k}={v}" for k, v in {**kind, **flag}.items())])
                yield Case(label, config, head)
    config = config_of("LlamaForScore", score_type="reward", do_normalize=True)
    yield Case("neither mean nor var", config, head)
    yield Case("buffers come before the configuration",
               config_of("LlamaForScore", do_normalize=True, mean=[5.0], var=[9.0]),
               {**head, **buffers}, made_as=made)
    yield Case("a stored bias", config_of("LlamaForScore"), {**head, **bias})
    yield Case("score_bias true", config_of("LlamaForScore", score_bias=True), {**head, **bias})
    yield Case("score_bias true, none stored", config_of("LlamaForScore", score_bias=True), head)
    yield Case("score_bias false", config_of("LlamaForScore", score_bias=False), {**head, **bias})
    yield Case("bias false", config_of("LlamaModelForScore", bias=False), {**head, **bias})


def main():
    transformers.logging.disable_progress_bar()
    torch.manual_seed(1)
    records = [lm_vectors(case) for case in lm_cases()]
    records += [beaver_vectors(case) for case in beaver_cases()]
    records += [class_vectors(case) for case in class_cases()]
    records += [value_vectors(case) for case in value_cases()]
    body_shapes = {kind.lower(): body(kind.lower()) for kind in FAMILIES}
    for record in records:  # what every model has stands once
        shared = body_shapes[record["config"]["model_type"]]
        own = record["shapes"]
        record["shapes"] = {k: v for k, v in own.items() if k not in shared}
        record["shapes"].update({k: None for k in shared if k not in own})
    lines = ",\n".join(json.dumps(record) for record in records)
    pathlib.Path(sys.argv[1]).write_text(
        f'{{"transformers": "{transformers.__version__}", "bodies": {json.dumps(body_shapes)},\n'
        f'"cases": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
