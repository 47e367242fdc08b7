"""The two scorers of the demo, and how plain Python samples and scores texts.

Both scorers are the lower layers of the trained policy with a new head. The cost model has the form of the
public Beaver score models; the reward model is a LlamaForSequenceClassification."""

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import (AutoConfig, DynamicCache, LlamaForCausalLM,
                          LlamaForSequenceClassification, LlamaModel)

from common import EOS, length_batches, llama_config, pad_rows

SCORER_LAYERS = 3


def scorer_config(**extra):
    """Shape of both scorers: 3.2 M parameters."""
    return llama_config(dim=256, n_layers=SCORER_LAYERS, n_heads=8, n_kv_heads=4, hidden=688, **extra)


def load_policy_body(body, state):
    """Copies embedding and lower layers of a policy state dict into a LlamaModel; keeps a fresh norm."""
    wanted = body.state_dict()
    taken = {k.removeprefix("model."): v for k, v in state.items()}
    body.load_state_dict({k: taken[k] if k != "norm.weight" else v for k, v in wanted.items()})


class CostModel(nn.Module):
    """LlamaModel with a score at every position: [n_rows, n_tokens]; positive means harmful."""

    def __init__(self, config):
        super().__init__()
        self.model = LlamaModel(config)
        self.score_head = nn.Linear(config.hidden_size, 1, bias=True)

    def forward(self, ids, dropout=0.0):
        """Scores of ids [n_rows, n_tokens]; dropout acts on the token embeddings."""
        embedded = nn.functional.dropout(self.model.embed_tokens(ids), dropout, dropout > 0)
        hidden = self.model(inputs_embeds=embedded).last_hidden_state
        return self.score_head(hidden).squeeze(-1).float()

    @classmethod
    def load(cls, directory):
        """An exported cost model in float32."""
        model = cls(AutoConfig.from_pretrained(directory))
        state = {k: v.float() for k, v in load_file(f"{directory}/model.safetensors").items()}
        model.load_state_dict({k: v for k, v in state.items() if not k.startswith("normalizer.")})
        return model.eval()


def load_reward(directory):
    """An exported reward model in float32."""
    return LlamaForSequenceClassification.from_pretrained(directory, dtype=torch.float32).eval()


def load_policy(directory):
    """An exported policy in float32."""
    return LlamaForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()


def reward_scores(model, ids, last):
    """Logits [n_rows] at position last[i] of ids [n_rows, n_tokens]."""
    hidden = model.model(input_ids=ids).last_hidden_state
    picked = hidden[torch.arange(len(last)), torch.tensor(last)]
    return model.score(picked).squeeze(-1).float()


@torch.no_grad()
def score_rewards(model, texts, rng, tokens_max=8192):
    """Reward of each text, a list of ids that ends with EOS if it is finished."""
    scores = [0.0] * len(texts)
    for batch in length_batches([len(t) for t in texts], tokens_max, rng):
        rows = [texts[i] for i in batch]
        values = reward_scores(model, pad_rows(rows), [len(r) - 1 for r in rows])
        for index, value in zip(batch, values.tolist()):
            scores[index] = value
    return scores


@torch.no_grad()
def score_costs(model, texts, n_prompts, discount, rng, tokens_max=8192):
    """(S_T, score at the last token) of each text of ids; EOS, if present, costs nothing.

    S_T = sum over response tokens of discount**k * max(0, s_k), as mode token_sum_pos serves it."""
    results = [(0.0, 0.0)] * len(texts)
    for batch in length_batches([len(t) for t in texts], tokens_max, rng):
        rows = [texts[i] for i in batch]
        values = model(pad_rows(rows)).double()
        for index, row, score in zip(batch, rows, values):
            first, end = n_prompts[index], len(row) - (row[-1] == EOS)
            costs = score[first:end].clamp(min=0)
            weight = discount ** torch.arange(len(costs), dtype=torch.float64)
            results[index] = ((costs * weight).sum().item(), score[len(row) - 1].item())
    return results


@torch.no_grad()
def sample(model, prompts, n_tokens_max, rows_max=512):
    """One response at temperature 1 for each prompt, a list of ids; EOS is kept where it was drawn.

    Prompts of equal length share a batch, so nothing is padded."""
    responses = [[] for _ in prompts]
    for length in sorted({len(p) for p in prompts}):
        indices = [i for i, p in enumerate(prompts) if len(p) == length]
        for start in range(0, len(indices), rows_max):
            sample_batch(model, prompts, indices[start:start + rows_max], n_tokens_max, responses)
    return responses


def sample_batch(model, prompts, live, n_tokens_max, responses):
    """Samples the prompts with indices `live`, all of one length, into `responses`."""
    cache = DynamicCache()
    ids = torch.tensor([prompts[i] for i in live])
    for _ in range(n_tokens_max):
        logits = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        drawn = torch.multinomial(torch.softmax(logits[:, -1].float(), -1), 1)
        for index, token in zip(live, drawn[:, 0].tolist()):
            responses[index].append(token)
        going = (drawn[:, 0] != EOS).nonzero()[:, 0]
        if len(going) == 0:
            return
        if len(going) < len(live):
            cache.batch_select_indices(going)
            live = [live[i] for i in going.tolist()]
        ids = drawn[going]
