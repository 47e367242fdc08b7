"""What every training script of the demo models shares: template, records, batches, export."""

import json
import pathlib
import random
import time

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import LlamaConfig

BOS, EOS, PAD = 0, 1, 2
VOCAB_SIZE = 4096
CONTEXT_TOKENS = 1024
INSTRUCTION = "Write a sentence with the words: "
TEMPLATE = "BEGINNING OF CONVERSATION: USER: {prompt} ASSISTANT:"
MODELS_DIR = pathlib.Path(__file__).resolve().parent.parent / "demo"


def prompt_of(concepts):
    """The prompt text for a list of concept words."""
    return INSTRUCTION + ", ".join(concepts)


def read_jsonl(path):
    """All rows of a JSON Lines file."""
    with open(path, encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def write_jsonl(path, rows):
    """Writes one JSON object a line."""
    with open(path, "w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=True) + "\n")


def write_json(path, value):
    """Writes one JSON document, indented."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


class Codec:
    """Encodes prompts and responses with the shared tokenizer."""

    def __init__(self, work):
        self.tokenizer = Tokenizer.from_file(str(pathlib.Path(work) / "tokenizer.json"))

    def prompt(self, concepts):
        """Ids of BOS and the rendered template, ready for a response."""
        return self.render(prompt_of(concepts))

    def render(self, prompt):
        """Ids of BOS and the template around any prompt text."""
        return self.tokenizer.encode(TEMPLATE.format(prompt=prompt)).ids

    def response(self, text):
        """Ids of a response, without EOS; the text gets the leading space of the template."""
        return self.tokenizer.encode(" " + text.strip(), add_special_tokens=False).ids

    def decode(self, ids):
        """Text of response ids."""
        return self.tokenizer.decode(ids)


def llama_config(dim, n_layers, n_heads, n_kv_heads, hidden, **extra):
    """A LlamaConfig with the constants that all three models share."""
    return LlamaConfig(
        vocab_size=VOCAB_SIZE, hidden_size=dim, intermediate_size=hidden,
        num_hidden_layers=n_layers, num_attention_heads=n_heads,
        num_key_value_heads=n_kv_heads, max_position_embeddings=CONTEXT_TOKENS,
        rms_norm_eps=1e-5, tie_word_embeddings=True, initializer_range=0.02,
        bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD,
        attn_implementation="sdpa", **extra)


def pad_rows(rows):
    """Right-pads lists of ids to [n_rows, n_tokens_max]; causal attention needs no mask for it."""
    width = max(len(row) for row in rows)
    return torch.tensor([row + [PAD] * (width - len(row)) for row in rows])


def length_batches(lengths, tokens_max, rng):
    """Lists of row indices, rows of like length together, at most tokens_max padded tokens each.

    Batches come in random order; rows of equal length are mixed anew on each call."""
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], rng.random()))
    batches, batch = [], []
    for index in order:
        if batch and (len(batch) + 1) * lengths[index] > tokens_max:
            batches.append(batch)
            batch = []
        batch.append(index)
    batches.append(batch)
    rng.shuffle(batches)
    return batches


def cosine_lr(done, peak, warmup=0.03, floor=0.02):
    """Learning rate after the fraction `done` of the run: linear warm-up, then cosine to floor."""
    if done < warmup:
        return peak * (done + 1e-3) / (warmup + 1e-3)
    wave = 0.5 * (1 + torch.cos(torch.tensor(torch.pi * (done - warmup) / (1 - warmup))).item())
    return peak * (floor + (1 - floor) * wave)


def adamw(model, weight_decay):
    """AdamW (Loshchilov and Hutter 2019); matrices decay, vectors do not."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    return torch.optim.AdamW(
        [{"params": matrices, "weight_decay": weight_decay},
         {"params": vectors, "weight_decay": 0.0}], lr=0.0, betas=(0.9, 0.95))


def train_step(model, optimizer, loss, lr):
    """One clipped update; returns the loss as a float."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


class Clock:
    """Prints a smoothed loss now and then."""

    def __init__(self, steps_total, every=50):
        self.start, self.total, self.every = time.time(), steps_total, every
        self.loss = None

    def tick(self, step, loss):
        """Takes the loss of one step."""
        self.loss = loss if self.loss is None else 0.98 * self.loss + 0.02 * loss
        if step % self.every == 0:
            seconds = time.time() - self.start
            print(f"step {step}/{self.total} loss {self.loss:.4f} {seconds:.0f} s", flush=True)


def seed_all(seed):
    """Seeds torch and returns a python generator with the same seed."""
    torch.manual_seed(seed)
    return random.Random(seed)


def export(directory, tensors, config, profile, work, dtype=torch.float16):
    """Writes one model directory: weights in f16, config, tokenizer files, surefoot.json."""
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().to(dtype).contiguous().clone()
               for name, value in tensors.items()}
    save_file(weights, str(directory / "model.safetensors"), metadata={"format": "pt"})
    (directory / "model.safetensors").chmod(0o644)
    write_json(directory / "config.json", config)
    write_json(directory / "surefoot.json", profile)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (directory / name).write_bytes((pathlib.Path(work) / name).read_bytes())
    size = sum(path.stat().st_size for path in directory.iterdir())
    print(f"{directory.name}: {size / 1e6:.1f} MB")


def config_dict(config, architecture, **extra):
    """A plain config.json dictionary in the common Hugging Face form."""
    return {
        "architectures": [architecture], "model_type": "llama", "torch_dtype": "float16",
        "vocab_size": config.vocab_size, "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.hidden_size // config.num_attention_heads,
        "hidden_act": "silu", "max_position_embeddings": config.max_position_embeddings,
        "rms_norm_eps": config.rms_norm_eps, "rope_theta": 10000.0, "rope_scaling": None,
        "attention_bias": False, "mlp_bias": False, "attention_dropout": 0.0,
        "initializer_range": config.initializer_range,
        "tie_word_embeddings": config.tie_word_embeddings,
        "bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD, "use_cache": True, **extra}
