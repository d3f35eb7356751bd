"""Byte, BPE and GPT-2 tokenizers: any text survives, streaming shows whole characters, cuts change nothing."""

import json
import os
import random
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import minigpt_core.tokenizer
from minigpt_core.bpe import MOST_TOKENS, BPETokenizer, byte_alphabet
from minigpt_core.byte_level import ByteTokenizer
from minigpt_core.errors import UsageError, UserError
from minigpt_core.sampler import Labels
from minigpt_core.tokenizer import (
    UNKNOWN_CHAR,
    Tokenizer,
    cut_safely,
    excerpt,
    load_tokenizer,
    token_dtype,
    well_formed,
)
from minigpt_core.tokenizer_spec import TokenizerSpec, encode_pieces, fit
from minigpt_tui.safetext import token_label
from minigpt_tui.widgets.attention_map import first_cell
from tests.faults.damage import value_damaged

SENTENCE = "the cat sat on a mat while birds sang don't it's 1984 café naïve 世界 🎈 ..."
EXAMPLES = int(os.environ.get("MINIGPT_ROUND_TRIPS", "60"))
"""Texts made for each property here; 5,000 for a long look."""
many = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SOME = [
    "the ",
    "The",
    "\n",
    "\n\n",
    "  ",
    " \t",
    "'s",
    "don't",
    "é",
    "世界",
    "🎈",
    "👩‍👩‍👧",
    "42",
    "...",
    "<|endoftext|>",
    "\udce2",
]
any_text = st.text(st.characters(exclude_categories=())) | st.lists(st.sampled_from(SOME)).map("".join)
good_text = any_text.map(well_formed)


def corpus() -> str:
    rng = random.Random(1)
    words = [*SENTENCE.split(), "\n", "  "]
    return " ".join(rng.choices(words, k=4000))


BPE: BPETokenizer = fit(TokenizerSpec("bpe", 300), lambda: [corpus()])  # type: ignore[assignment]
each = pytest.mark.parametrize("tokenizer", [ByteTokenizer(), BPE], ids=["byte", "bpe"])


# --- there and back ---


@each
@many
@given(text=any_text)
def test_any_text_survives_lone_surrogates_too(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int64
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(ids.tolist()) == text
    assert tokenizer.unknown(text) == ()
    assert tokenizer.byte_lengths[ids].sum() == len(text.encode("utf-8", "surrogatepass"))


@many
@given(text=any_text.filter(bool))
def test_any_text_survives_the_characters_made_from_it(text: str) -> None:
    tokenizer = fit(TokenizerSpec(), lambda: [text])
    decoder = tokenizer.decoder()
    ids = tokenizer.encode(text).tolist()
    assert "".join(decoder.feed([i]) for i in ids) + decoder.flush() == tokenizer.decode(ids) == text


@each
@many
@given(data=st.data())
def test_streaming_gives_the_text_whatever_the_tokens(tokenizer: Tokenizer, data: st.DataObject) -> None:
    ids = data.draw(
        st.lists(st.integers(0, tokenizer.vocab_size - 1) | st.sampled_from([0xED, 0xA0, 0xE2, 0x82, 0xF0]))
    )
    decoder = tokenizer.decoder()
    assert "".join(decoder.feed([i]) for i in ids) + decoder.flush() == tokenizer.decode(ids)
    cut = data.draw(st.integers(0, len(ids)))  # the decoder is as new
    assert decoder.feed(ids[:cut]) + decoder.feed(ids[cut:]) + decoder.flush() == tokenizer.decode(ids)


@many
@given(text=any_text)
def test_streaming_split_at_every_byte_shows_each_character_when_it_is_whole(text: str) -> None:
    decoder = ByteTokenizer().decoder()
    pieces = [decoder.feed([byte]) for byte in ByteTokenizer().encode(text)]
    assert decoder.flush() == ""
    assert "".join(pieces) == text
    assert all(len(piece) <= 1 for piece in pieces)
    for cut in range(len(pieces)):
        assert text.startswith("".join(pieces[:cut]))


@many
@given(data=st.binary())
def test_bytes_that_form_no_character_are_replaced_as_everywhere(data: bytes) -> None:
    if b"\xed" not in data:  # which may begin a surrogate
        assert ByteTokenizer().decode(list(data)) == data.decode(errors="replace")


def test_labels_show_what_is_no_character() -> None:
    assert ByteTokenizer().token_labels(ByteTokenizer().encode("a €")) == ("a", " ", "‹E2›", "‹82›", "‹AC›")
    tokens = (*byte_alphabet(), "xâ")
    assert BPETokenizer(tokens, ("x â",)).token_labels([256]) == ("x‹E2›",)
    assert all(BPE.token_labels(range(BPE.vocab_size)))


@pytest.mark.parametrize(
    ("token", "cell"), [("a", "a"), (" ", "␣"), (" the", "t"), ("\n", "⏎"), ("‹E2›", "‹"), ("世", "□")]
)
def test_one_cell_tells_tokens_apart_on_an_axis(token: str, cell: str) -> None:
    assert first_cell(token_label(token)) == cell


def test_what_a_model_writes_has_no_surrogates_and_a_label_for_half_a_character() -> None:
    assert well_formed("a\ud83d\ude00b\udce2é") in (f"a😀b{UNKNOWN_CHAR}é", f"a{UNKNOWN_CHAR * 2}b{UNKNOWN_CHAR}é")
    weighed = [float(0xE2), float(0xE2), 65.0, 0.5, 0.5, 0.25]
    choice = Labels(ByteTokenizer()).choice("", weighed)
    assert (choice.text, choice.label, choice.p) == ("", "‹E2›", 0.5)
    assert choice.alternatives[0][0] == choice.label
    assert Labels(ByteTokenizer()).choice("A", [65.0, *weighed[1:]]).label == ""


def test_an_excerpt_begins_and_ends_with_whole_characters() -> None:
    ids = ByteTokenizer().encode("世 and 界")
    assert excerpt(ByteTokenizer(), ids[1:-1]) == " and "


# --- BPE ---


def test_training_is_the_same_each_time_and_however_the_text_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    text = corpus()
    for chunk in (64, 1000):
        monkeypatch.setattr(minigpt_core.tokenizer, "CHUNK", chunk)
        for size in (50, 777):
            pieces = [text[i : i + size] for i in range(0, len(text), size)]
            assert fit(TokenizerSpec("bpe", 300), lambda pieces=pieces: pieces) == BPE
    assert BPE.vocab_size == 300
    assert {*byte_alphabet()} < {*BPE.tokens}
    assert len(BPE.encode(text)) < len(text.encode()) / 2


def test_a_text_without_patterns_gives_the_bytes() -> None:
    assert fit(TokenizerSpec("bpe", 300), lambda: ["abc"]).vocab_size == 256


def test_training_tells_how_far_it_is_and_can_be_stopped() -> None:
    told: list[int] = []
    fit(TokenizerSpec("bpe", 300), lambda: ["ab ", "cde "], told.append)
    assert told == [3, 7]

    def stop(read: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(TokenizerSpec("bpe", 300), lambda: ["ab ", "cde "], stop)


@many
@given(text=any_text)
def test_a_text_may_be_cut_at_every_safe_place(text: str) -> None:
    whole = BPE.encode(text).tolist()
    for end in range(1, len(text) + 1):
        cut = BPE.last_safe_cut(text[:end])
        assert 0 <= cut < end
        if cut:
            assert BPE.encode(text[:cut]).tolist() + BPE.encode(text[cut:]).tolist() == whole


@each
@settings(many, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(text=any_text, cuts=st.lists(st.integers(0, 200)), chunk=st.integers(1, 20))
def test_pieces_cut_anywhere_give_the_tokens_of_the_whole(
    tokenizer: Tokenizer, text: str, cuts: list[int], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[a:b] for a, b in pairwise(places)]
    monkeypatch.setattr(minigpt_core.tokenizer, "CHUNK", chunk)  # so that even short texts are cut, by force too
    arrays = list(encode_pieces(tokenizer, pieces))
    whole = tokenizer.encode(text).tolist()
    assert [i for array in arrays for i in array.tolist()] == whole
    assert all(array.dtype == token_dtype(tokenizer.vocab_size) for array in arrays)
    assert tokenizer.decode(whole) == text
    if safe := tokenizer.last_safe_cut(text):  # as a reader that begins in the middle does
        parts = [i for part in (text[:safe], text[safe:]) for array in encode_pieces(tokenizer, [part]) for i in array]
        assert parts == whole


def test_a_long_text_without_white_space_is_cut_by_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minigpt_core.tokenizer, "CHUNK", 100)
    text = "the" * 99 + " the"
    assert BPE.decode(BPE.encode(text)) == text
    assert [len(piece) for piece in cut_safely(BPE.last_safe_cut, [text])] == [100, 100, 97, 4]


# --- against the reference ---


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vocabulary as GPT-2's is published."""
    path: Path = tmp_path_factory.mktemp("gpt2")
    tokens = [*BPE.tokens, "<|endoftext|>"]
    (path / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}), encoding="utf-8")
    (path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(BPE.merges) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def reference(folder: Path) -> Callable[[str], list[int]]:
    from transformers import GPT2TokenizerFast

    made = GPT2TokenizerFast(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"))
    made.save_pretrained(folder / "saved")
    return lambda text: made(text)["input_ids"]


@settings(many, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(text=good_text.filter(lambda text: "<|endoftext|>" not in text))
def test_the_tokens_are_those_of_transformers(text: str, folder: Path, reference: Callable[[str], list[int]]) -> None:
    assert BPE.encode(text).tolist() == reference(text)


def test_a_published_vocabulary_is_read_from_either_kind_of_file(
    folder: Path, reference: object, tmp_path: Path
) -> None:
    two = fit(TokenizerSpec.parse(str(folder)), list)
    assert (two.vocab_size, two.token_labels([300])) == (301, ("<|endoftext|>",))
    assert 300 not in two.encode("<|endoftext|>").tolist()
    (tmp_path / "tokenizer.json").write_bytes((folder / "saved" / "tokenizer.json").read_bytes())
    one = fit(TokenizerSpec.parse(str(tmp_path)), list)
    assert one == two
    keys = {TokenizerSpec.parse(str(path)).key for path in (folder, tmp_path)}
    assert len(keys) == 2
    (tmp_path / "tokenizer.json").write_bytes((folder / "saved" / "tokenizer.json").read_bytes() + b"\n")
    assert TokenizerSpec.parse(str(tmp_path)).key not in keys


def test_gpt2_is_found_in_the_local_cache(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="GPT-2's vocabulary is not in the local Hugging Face cache; fetch it"):
        fit(TokenizerSpec("gpt2"), list)
    repository = tmp_path / "models--openai-community--gpt2"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0123abc")
    (repository / "snapshots").mkdir()
    (repository / "snapshots" / "0123abc").symlink_to(folder)
    assert fit(TokenizerSpec("gpt2"), list).vocab_size == 301
    assert TokenizerSpec("gpt2").key == TokenizerSpec("gpt2", path=str(folder)).key


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no GPT-2 vocabulary"),
        ({"vocab.json": "[]", "merges.txt": ""}, "is damaged"),
        ({"vocab.json": '{"a": 1}', "merges.txt": ""}, "its ids are not 0, 1, 2"),
        ({"vocab.json": '{"a": "0"}', "merges.txt": ""}, "its ids are not 0, 1, 2"),
        ({"vocab.json": '{"a": 0}', "merges.txt": ""}, "lacks 255 of the 256 bytes"),
        ({"tokenizer.json": "{}"}, "its model is not BPE"),
        ({"tokenizer.json": '{"model": {"type": "BPE", "vocab": {}, "merges": []}}'}, "in another way than GPT-2"),
        ({"tokenizer.json": '{"model": {"type": "WordPiece", "vocab": {}}}'}, "its model is not BPE"),
        ({"tokenizer.json": '{"normalizer": {"type": "NFC"}, "model": {"type": "BPE", "vocab": {}}}'}, "another way"),
        (
            {
                "tokenizer.json": '{"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false}, '
                '"added_tokens": [{"content": 3, "id": []}], "model": {"type": "BPE", "vocab": {}, "merges": 7}}'
            },
            "is no GPT-2 vocabulary",
        ),
    ],
)
def test_what_is_no_gpt2_vocabulary_is_refused_in_a_line(files: dict[str, str], message: str, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message) as refused:
        fit(TokenizerSpec("gpt2", path=str(tmp_path)), list)
    assert "\n" not in str(refused.value)


# --- kept ---


@each
def test_a_tokenizer_is_plain_values_and_comes_back(tokenizer: Tokenizer) -> None:
    assert load_tokenizer(json.loads(json.dumps(tokenizer.to_dict()))) == tokenizer


@pytest.mark.parametrize(
    "change",
    [
        {"tokens": []},
        {"tokens": None},
        {"tokens": "abc"},
        {"tokens": [*BPE.tokens[:-1], 7]},
        {"tokens": [*BPE.tokens, "a"]},
        {"tokens": [*BPE.tokens, ""]},
        {"tokens": list(BPE.tokens[1:])},
        {"tokens": [*BPE.tokens, *(f"a{i}" for i in range(MOST_TOKENS))]},
        {"merges": ["a"]},
        {"merges": ["a b c"]},
        {"merges": [" "]},
        {"merges": [["a", "b"]]},
        {"merges": ["q q"]},
        {"merges": {"a": "b"}},
        {"more": 1},
        {"type": "byte"},
        {"type": "gpt2"},
    ],
    ids=lambda change: str(change)[:40],
)
def test_hostile_values_are_refused(change: dict) -> None:
    with pytest.raises(UsageError) as refused:
        load_tokenizer(BPE.to_dict() | change)
    assert len(str(refused.value)) < 300


def test_a_damaged_dict_is_refused_or_still_a_tokenizer() -> None:
    rng, small = random.Random(2), BPETokenizer((*byte_alphabet(), "th"), ("t h",))
    for _ in range(300):
        values = value_damaged(small.to_dict(), rng)
        with suppress(UsageError):
            tokenizer = load_tokenizer(values)
            assert tokenizer.decode(tokenizer.encode("this é")) == "this é"


@each
def test_ids_outside_the_vocabulary_are_refused(tokenizer: Tokenizer) -> None:
    for ids in ([-1], [tokenizer.vocab_size]):
        for ask in (tokenizer.decode, tokenizer.token_labels, tokenizer.decoder().feed):
            with pytest.raises(UsageError, match="outside the vocabulary"):
                ask(ids)


# --- what is asked for ---


def test_specs_that_differ_have_keys_that_differ_and_fit_a_file_name() -> None:
    specs = [TokenizerSpec("char", size) for size in (None, 2, 20)]
    specs += [TokenizerSpec("bpe", size) for size in (None, 257, 2048)] + [TokenizerSpec("byte")]
    keys = [spec.key for spec in specs]
    assert len({*keys}) == len(keys)
    assert all(key.replace("-", "").isalnum() for key in keys)
    assert TokenizerSpec("bpe").key == TokenizerSpec("bpe", 1024).key
    assert all(TokenizerSpec(**spec.to_dict()) == spec for spec in specs)


@pytest.mark.parametrize(
    ("tokenizer", "vocab_size", "message"),
    [
        ("bite", None, "unknown tokenizer 'bite'; did you mean 'byte'?"),
        ("byte", 300, "--vocab-size does not go with --tokenizer byte"),
        ("gpt2", 300, "--vocab-size does not go with --tokenizer gpt2"),
        ("bpe", 256, "--vocab-size 256: with --tokenizer bpe it may be 257 to 262,144"),
        ("bpe", 10**9, "it may be 257 to"),
        ("char", 1, "it may be 2 to"),
    ],
)
def test_what_cannot_be_asked_for_is_said_in_a_line(tokenizer: str, vocab_size: int | None, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        TokenizerSpec.parse(tokenizer, vocab_size)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
