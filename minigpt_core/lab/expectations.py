"""What each ablation is expected to do, why, and who found it: a check of plausibility, not a target.

The papers' models are larger and trained longer; what they found need not show at this size.
"""

from __future__ import annotations

from typing import NamedTuple

from minigpt_core.lab.design import parse_variant
from minigpt_core.lab.paired import BASELINE, TRANSPOSED


class Expectation(NamedTuple):
    """A short paragraph and its sources."""

    text: str
    sources: tuple[str, ...] = ()


SIZE = Expectation(
    "More layers, width or context usually help until the text runs out: on a short text a larger model begins to "
    "learn it by heart, and the gap between validation and training loss says so. A different size has a different "
    "best learning rate and another number of parameters, so read this as a comparison of two configurations, not of "
    "two architectures at equal cost.",
    ("Kaplan et al. 2020, Scaling Laws for Neural Language Models, arXiv 2001.08361",),
)
TRAINING = Expectation(
    "The same model, trained otherwise. Seeds and text are the baseline's, so a difference is due to this setting "
    "alone. A learning rate that is better after few steps may be worse after many: the schedule ends with the run."
)

EXPECTATIONS: dict[str, Expectation] = {
    BASELINE: Expectation(
        "GPT-2's structure. Its spread over seeds is the yardstick: a difference much smaller than it can be told "
        "from nothing only because the runs are paired, and only if the interval leaves out zero."
    ),
    "no-layernorm": Expectation(
        "A small cost at a low learning rate, and a much narrower range of rates that train at all. LayerNorm keeps "
        "the scale of what each part reads, and so of its gradients, fixed. With weights drawn at 0.02 nothing "
        "explodes at once without it: the signal starts small, so learning starts slowly.",
        (
            "Ba, Kiros & Hinton 2016, Layer Normalization, arXiv 1607.06450",
            "Xiong et al. 2020, On Layer Normalization in the Transformer Architecture, arXiv 2002.04745",
        ),
    ),
    "no-residual": Expectation(
        "The largest damage. Each part now replaces the stream instead of adding to it: what the attention does not "
        "pass on is lost, the gradient has no direct way back, and attention alone makes all positions more alike "
        "from layer to layer (rank collapse). Deep stacks stall near the loss of letter or letter-pair frequencies; "
        "shallow ones still learn something.",
        (
            "He et al. 2015, Deep Residual Learning for Image Recognition, arXiv 1512.03385",
            "Dong, Cordonnier & Loukas 2021, Attention is not all you need: pure attention loses rank doubly "
            "exponentially with depth, arXiv 2103.03404",
        ),
    ),
    "single-head": Expectation(
        "A little worse, about 0.02 to 0.10 nats, at the same number of parameters. One head has one distribution of "
        "attention a layer: it cannot look at the previous letter and at the start of the word at once without "
        "blurring them. That a trained model often keeps working when most of its heads are removed says that not "
        "every head is needed, not that training with one would have done.",
        (
            "Vaswani et al. 2017, Attention Is All You Need, section 3.2.2, arXiv 1706.03762",
            "Michel, Levy & Neubig 2019, Are Sixteen Heads Really Better than One?, arXiv 1905.10650",
        ),
    ),
    "swap-qk": Expectation(
        "Nothing. Which projection is called query is a name: here the rows of the two are exchanged after "
        "initialisation too, so the function is the baseline's, and so is every gradient. What remains is rounding: "
        "the same numbers are summed in another order, and training amplifies such differences from step to step, so "
        "long runs may drift apart in the last digits shown. See the row of transposed scores for what it is not."
    ),
    TRANSPOSED: Expectation(
        "Clear damage. The honest twin of swap-qk, without training: the trained baseline is evaluated with query and "
        "key exchanged, so each score is the one of the same two positions the other way round. Who looks for whom "
        "was learned, and it is not symmetric."
    ),
    "no-positions": Expectation(
        "A small cost, which depends on seed and depth. Without position embeddings attention sees a set, but the "
        "causal mask leaks position: the first token sees one token, the next one two, and a layer can count them. "
        "Learned positions help most where exact distances matter, as between neighbouring letters.",
        (
            "Haviv et al. 2022, Transformer Language Models without Positional Encodings Still Learn Positional "
            "Information, arXiv 2203.16634",
            "Kazemnejad et al. 2023, The Impact of Positional Encoding on Length Generalization in Transformers, "
            "arXiv 2305.19466",
        ),
    ),
}


def expected(variant: str) -> list[tuple[str, Expectation]]:
    """What to expect of a row of the table: one entry for each thing it changes, with that thing's name."""
    if variant in EXPECTATIONS:
        return [(variant, EXPECTATIONS[variant])]
    parts = [part for part in variant.split(",") if "=" not in part]
    found = [(part, EXPECTATIONS[part]) for part in parts if part in EXPECTATIONS]
    sizes = [part for part in variant.split(",") if "=" in part and parse_variant(part).model]
    rates = [part for part in variant.split(",") if "=" in part and parse_variant(part).train]
    if sizes:
        found.append((",".join(sizes), SIZE))
    if rates:
        found.append((",".join(rates), TRAINING))
    return found
