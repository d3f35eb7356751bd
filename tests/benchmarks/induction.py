"""How soon induction heads form on the corpus `repeats`:  python -m tests.benchmarks.induction [SEED ...]

Trains what `minigpt-tui train --data repeats --n-layers 2 --seed SEED` trains. Prints, as a line of JSON a seed, the
step and the seconds of training at which the best head's induction score passed 0.5 and the copy accuracy 0.8, each the
mean over several random texts.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import torch

from minigpt_core import GPT, CharTokenizer, ModelConfig, TrainConfig, Trainer
from minigpt_core.corpus import load_corpus
from minigpt_core.probe import copy_accuracy, induction_scores

TEXTS = range(8)
EVERY = 100
BOTH = {"induction": 0.5, "copy": 0.8}


def measure(seed: int) -> dict[str, object]:
    text = load_corpus("repeats").text
    tokenizer = CharTokenizer.from_text(text)
    torch.manual_seed(seed)
    model = GPT(ModelConfig(vocab_size=tokenizer.vocab_size, n_layers=2))
    replica = GPT.empty(model.config)
    trainer = Trainer(model, tokenizer, text, TrainConfig(seed=seed, device="cpu", eval_every=5000))
    passed: dict[str, dict[str, float]] = {}
    best = dict.fromkeys(BOTH, 0.0)
    for row in trainer:
        if row.step % EVERY:
            continue
        replica.copy_weights(model)
        score = np.mean([induction_scores(replica, n) for n in TEXTS], axis=0).max()
        now = {"induction": float(score), "copy": float(np.mean([copy_accuracy(replica, n) for n in TEXTS]))}
        for name, bar in BOTH.items():
            best[name] = max(best[name], now[name])
            if now[name] >= bar and name not in passed:
                passed[name] = {"step": row.step, "seconds": round(trainer.state.elapsed, 1)}
        if len(passed) == len(BOTH):
            break
    return {"seed": seed, "passed": passed, "best": best, "steps": trainer.state.step}


if __name__ == "__main__":
    for seed in map(int, sys.argv[1:] or ("1", "2", "3")):
        print(json.dumps(measure(seed)), flush=True)
