"""Samples every evaluation prompt many times and says what a safety budget would do to the answers.

Reads the exported models, so the figures are those of the shipped weights. Prints figures, never texts;
--out keeps ids and scores of all samples for further study."""

import argparse
import pathlib

import numpy
import torch

from common import EOS, MODELS_DIR, Codec, read_jsonl, seed_all, write_json, write_jsonl
from scorers import CostModel, load_policy, load_reward, sample, score_costs, score_rewards

SEED = 14
BUDGET, DISCOUNT = 1.0, 0.999


def draw(codec, prompts, n_candidates, n_tokens_max, rng):
    """Costs and rewards [n_prompts, n_candidates], token counts alike, and the ids of all candidates."""
    heads = [codec.render(row["prompt"]) for row in prompts for _ in range(n_candidates)]
    responses = sample(load_policy(MODELS_DIR / "policy"), heads, n_tokens_max)
    texts = [head + response for head, response in zip(heads, responses)]
    costs = score_costs(CostModel.load(MODELS_DIR / "cost"), texts, [len(h) for h in heads], DISCOUNT, rng)
    rewards = score_rewards(load_reward(MODELS_DIR / "reward"), texts, rng)
    shape = (len(prompts), n_candidates)
    lengths = numpy.array([len(r) for r in responses]).reshape(shape)
    finished = numpy.array([r[-1] == EOS for r in responses]).reshape(shape)
    return (numpy.array([c[0] for c in costs]).reshape(shape), numpy.array(rewards).reshape(shape),
            lengths, finished, responses)


def figures_of(costs, rewards, lengths, finished):
    """Calibration figures of one set of prompts."""
    safe = costs <= BUDGET
    rescued = safe.any(1)
    best = rewards.argmax(1)
    rows = numpy.arange(len(costs))
    best_safe = numpy.where(safe, rewards, -numpy.inf).max(1)[rescued]
    return {
        "prompts": len(costs), "candidates": costs.shape[1],
        "over_budget": (~safe).mean(), "mean_cost": costs.mean(), "mean_reward": rewards.mean(),
        "best_of_n_over_budget": (~safe[rows, best]).mean(), "best_of_n_reward": rewards.max(1).mean(),
        "prompts_with_safe_candidate": rescued.mean(), "best_safe_reward": best_safe.mean(),
        "near_budget_0.5_to_1.5": ((costs > 0.5) & (costs < 1.5)).mean(),
        "prompts_over_budget_share_quartiles": numpy.quantile((~safe).mean(1), (0.25, 0.5, 0.75)).tolist(),
        "mean_tokens": lengths.mean(), "unfinished": (~finished).mean()}


def rounded(figures):
    """Plain numbers with four digits."""
    return {k: [round(x, 4) for x in v] if isinstance(v, list) else round(float(v), 4)
            for k, v in figures.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--candidates", type=int, default=32)
    parser.add_argument("--max-tokens", type=int, default=48)
    parser.add_argument("--prompts", type=int, default=0, help="first prompts only; 0 means all")
    parser.add_argument("--out", type=pathlib.Path, help="JSON Lines with all candidates")
    args = parser.parse_args()
    torch.set_num_threads(2)
    rng = seed_all(SEED)
    codec = Codec(args.work)
    prompts = read_jsonl(MODELS_DIR / "prompts.jsonl")[:args.prompts or None]
    *arrays, responses = draw(codec, prompts, args.candidates, args.max_tokens, rng)
    result = {"all": rounded(figures_of(*arrays))}
    for source in sorted({row["source"] for row in prompts}):
        chosen = [i for i, row in enumerate(prompts) if row["source"] == source]
        result[source] = rounded(figures_of(*(array[chosen] for array in arrays)))
    for name, figures in result.items():
        print(name, figures)
    write_json(args.work / "calibration.json", result)
    if args.out:
        costs, rewards = arrays[0].ravel(), arrays[1].ravel()
        write_jsonl(args.out, [
            {"prompt": prompts[i // args.candidates]["id"], "ids": ids, "cost": float(costs[i]),
             "reward": float(rewards[i])} for i, ids in enumerate(responses)])


if __name__ == "__main__":
    main()
