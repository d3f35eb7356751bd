"""The guided tours: what each lesson says, and when.

Lessons are data. A text must be true whenever its chapter is open, so what happened is told with its step, what changes
is quoted live, and nothing is promised that a condition does not wait for.
"""

from __future__ import annotations

from minigpt_core.ladder import RUNGS
from minigpt_tui.facts import Facts
from minigpt_tui.guide import Chapter, Lesson

CONTEXT = 64
"""Tokens that the models of all lessons see."""


def passed(n: int, facts: Facts) -> bool:
    """Whether the run got below the n-gram level."""
    return RUNGS[n] in facts.passed


FIRST = Lesson(
    name="first",
    data="pydocs",
    model={"n_layers": 4, "num_heads": 4, "embed_dim": 128, "seq_len": CONTEXT},
    train={"optimizer": "adamw", "patience": 0, "steps": 2400, "eval_every": 200, "device": "cpu"},
    chapters=(
        Chapter(
            "A model that guesses",
            "A language model reads a text and guesses every next character. This one reads the handbook of a "
            "programming language. At first its weights are random numbers, so each of the {V} characters that occur "
            "is about as likely as any other. Its mistakes are measured by the loss: minus the logarithm of the "
            "probability that it gave to the true character. Pure guessing has a loss of ln {V} = {level0}. The "
            "`loss` pane draws how it falls: now {loss}.",
            pane="loss",
        ),
        Chapter(
            "Which letters are common",
            "At step {passed1} the loss fell below {level1}: what one reaches who knows how often each character "
            "occurs, and nothing else. In every step the model sees a few hundred characters of the text, and each "
            "of its weights moves a little to where the true ones would have been likelier. At step {wrote_step} it "
            "wrote this, one letter after another by chance:\n"
            "{wrote}",
            pane="samples",
            holds=lambda facts: passed(1, facts),
            waiting="a loss below {level1}, now {loss}",
            writes=True,
        ),
        Chapter(
            "Which letter follows which",
            "At step {passed2} it fell below {level2}. That is the loss of a table of pairs: after q comes u, after "
            "a comma a space. So by now it uses the character before. Tables of n characters are called n-grams; "
            "their losses are the lines across the `loss` pane. A loss of {loss} means a chance of {chance} for "
            "the true character, on geometric average. At step {wrote_step} it wrote:\n"
            "{wrote}",
            pane="samples",
            holds=lambda facts: passed(2, facts),
            waiting="a loss below {level2}, now {loss}",
            writes=True,
        ),
        Chapter(
            "Attention: looking back",
            "A model looks back by attention. Each row is a character that asks, each column one it may look at; the "
            "brighter, the more it looks there. The future, right of the diagonal, is hidden. 16 heads do this, "
            "each in its own way. A line just below the diagonal is a head that looks at the character before. The "
            "one shown, {previous}, looks there most: {previous_share}. Press `2`, then `,` `.` `<` `>` for the "
            "other heads, and `L` to come back here.",
            pane="attention",
            holds=lambda facts: facts.previous is not None,
            waiting="the first look inside",
            head="previous",
        ),
        Chapter(
            "Words",
            "At step {passed3} it fell below {level3}, that of a table of triples. The model sees "
            f"up to {CONTEXT} characters, far more than any table could count, and by now it spells common "
            "words.\n"
            "then, step {first_step}: {first}\n"
            "now, step {last_step}: {last}",
            pane="samples",
            holds=lambda facts: passed(3, facts),
            waiting="a loss below {level3}, now {loss}",
            writes=True,
        ),
        Chapter(
            "Text it has never seen",
            "Does it only learn this text by heart? A tenth of the text is kept back and never trained on. The "
            "diamonds in the `loss` pane are the loss on that part: {val} at step {val_step}, beside {loss} in "
            "training. As long as both fall, what it learns holds for new text as well. If training went on for "
            "long, the first would rise again while the second fell: that is overfitting, learning by heart.",
            pane="loss",
            holds=lambda facts: facts.status.val_loss is not None,
            waiting="the first test on unseen text",
        ),
        Chapter(
            "Talk to it",
            "Press `i`, type the beginning of a sentence, press `Enter`. The answer comes from the weights of this "
            "moment; the line above it names their step. The model gives every character a probability, and chance "
            "draws one. Temperature shifts that: `/temp 0.3` favours the likely ones, safe and repetitive; "
            "`/temp 1.2` gives the others a chance, lively and faulty. `esc` leaves the prompt, `Enter` then goes on.",
            pane="samples",
        ),
        Chapter(
            "How a guess comes about",
            "The model is a stack of 4 layers; each adds to what the ones before it made out. The logit lens shows "
            "what it would say if it stopped after each of them. The first line, before any layer, mostly repeats the "
            "character itself; the last is its real guess. Press `5`, then the arrow keys, for other places in the "
            "text. `g` lists all heads: where each one looks, and since which step; `esc` returns.",
            pane="lens",
            holds=lambda facts: facts.previous is not None,
            waiting="the first look inside",
        ),
        Chapter(
            "Back in time",
            "All this was recorded: {frames} looks inside so far. Press `t` to look back, `home` for the beginning, "
            "`space` to play it: watch the maps, the guesses and the samples become what they are now. `1` to `5` "
            "choose what to watch. `esc` returns to the present, and `L` to this lesson.",
            pane="attention",
            holds=lambda facts: facts.frames >= 2,
            waiting="two recorded frames",
        ),
        Chapter(
            "What next",
            "The run is at step {step} of {steps}. It stays in the folder of runs; `minigpt-tui chat` opens it "
            "again.\n"
            "`minigpt-tui tour heads` · how heads learn to copy\n"
            "`minigpt-tui train --ablate no-positions` · what a model without places can do\n"
            "`minigpt-tui notebook` · everything you saw, by hand and in code\n"
            "`esc` closes this lesson and leaves you the app; `q` saves and quits.",
            pane="loss",
        ),
    ),
)

HEADS = Lesson(
    name="heads",
    data="repeats",
    model={"n_layers": 2, "num_heads": 4, "embed_dim": 128, "seq_len": CONTEXT},
    train={"optimizer": "adamw", "patience": 0, "steps": 4000, "eval_every": 400, "device": "cpu"},
    chapters=(
        Chapter(
            "A text that repeats itself",
            "In this text pieces of random letters come back, in each passage other ones, at other distances. Between "
            "them are fillers with simple rules, such as two counters that climb in turn (emfngo: e f g, m n o). "
            "Counting letters is of no use. A filler goes on from the last letters; a piece that comes back goes on "
            "as it did before, so one has to look up where. It starts at ln {V} = {level0}, pure guessing; now {loss}.",
            pane="loss",
        ),
        Chapter(
            "Four heads in each of two layers",
            "Attention is how a model looks back: a row is a letter that asks, a column one it may look at; bright "
            "is much. Before training every head looks everywhere a little. To continue a repeat takes two steps. "
            "First, every place must note which letter stands before it. Second, a later layer must look for the "
            "place that noted the letter at hand. The first can be seen as a line just below the diagonal.",
            pane="attention",
            holds=lambda facts: facts.previous is not None,
            waiting="the first look inside",
            head="previous",
        ),
        Chapter(
            "A previous-token head",
            "There it is: a head that looks at the letter just before, whatever the letters are. The best one now "
            "is {previous}, with {previous_share} of its attention there. Its first recorded step above half is "
            "{previous_born}. It serves the counters at once. For repeats it is the first half of the work: it notes "
            "in every place what stood before, for a later layer to find.",
            pane="attention",
            holds=lambda facts: facts.born("previous"),
            waiting="a head at 50 % on the letter before, best now {previous_share}",
            head="previous",
        ),
        Chapter(
            "An induction head",
            "And the second step: {previous} tells each place what stood before it; {induction} looks for the place "
            "that was told the letter at hand, and so at what followed it last time. {induction_share} of its "
            "attention goes there, on random letters said twice. That is an induction head, above half since step "
            "{induction_born}. From here on the loss can fall: whatever comes back is foreseen from its second "
            "letter on.",
            pane="attention",
            holds=lambda facts: facts.born("induction"),
            waiting="an induction score of 50 %, best now {induction_share}",
            head="induction",
        ),
        Chapter(
            "Who does what",
            "Press `g`: the gallery lists the heads of both layers with their scores, how these rose, and the step "
            "at which each took up its role; `i` there sorts by induction, `Enter` opens a head's map, `esc` "
            "returns. Press `t`, `home` and `space` to see it happen again. Induction heads were found in large "
            "language models too, where they help to learn from the prompt (Olsson et al. 2022).",
            pane="attention",
            holds=lambda facts: facts.frames >= 2,
            waiting="two recorded frames",
            head="induction",
        ),
        Chapter(
            "What next",
            "Press `i` and type letters that begin to repeat, such as qhdzkqhd: where the model has learned it, the "
            "answer most likely begins with zk.\n"
            "`minigpt-tui train --data repeats --n-layers 1` · one layer cannot: it takes two steps\n"
            "`minigpt-tui notebook` · attention by hand and in code\n"
            "`esc` closes this lesson and leaves you the app; `q` saves and quits.",
            pane="samples",
            holds=lambda facts: facts.born("induction"),
            waiting="an induction head",
        ),
    ),
)

LESSONS = {lesson.name: lesson for lesson in (FIRST, HEADS)}
