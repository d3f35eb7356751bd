"""Commands on texts: which there are, what is in one, encode one ahead, make room."""

# No `from __future__ import annotations`: Typer would have to evaluate every one of them again, twice.

from typing import Annotated, Any

import typer

from minigpt_tui.commands.options import OUTPUT, TEXT, Encoding, TextField

Source = Annotated[
    str | None,
    typer.Argument(metavar="TEXT", help="What --data of train takes: a file, a folder, a pattern, - or a name."),
]
TokenizerOption = Annotated[str, TEXT("char, byte, bpe, gpt2 or the folder of a GPT-2 vocabulary.")]
VocabSize = Annotated[int | None, TEXT("Tokens; with char the N-1 most frequent characters.", metavar="N")]
Json = Annotated[bool, OUTPUT("Print it as JSON.", "--json", metavar="")]


def data(context: typer.Context, json: Json = False) -> None:
    """List the texts that have a name and those that are kept encoded; prepare, show or remove one.

    [bold]Examples[/bold]
    minigpt-tui data
    minigpt-tui data show shakespeare
    minigpt-tui data prepare 'docs/**/*.md'
    """
    if context.invoked_subcommand is None:
        list_texts(json)


def list_texts(json: Json = False) -> None:
    """List the texts that have a name, and those that are kept encoded.

    [bold]Examples[/bold]
    minigpt-tui data list
    minigpt-tui data list --json
    """
    from minigpt_core.text_report import texts
    from minigpt_tui.text_listing import print_texts

    _print(texts(), json, print_texts)


def prepare(
    text: Source = None,
    encoding: Encoding = None,
    text_field: TextField = None,
    tokenizer: TokenizerOption = "char",
    vocab_size: VocabSize = None,
    json: Json = False,
) -> None:
    """Download, unpack and encode a text ahead, so that training on it begins at once.

    Interrupted, the next call goes on from there.

    [bold]Examples[/bold]
    minigpt-tui data prepare enwik8 --tokenizer bpe --vocab-size 8192
    minigpt-tui data prepare wiki.jsonl.gz --text-field body
    """
    _describe(text, encoding, text_field, tokenizer, vocab_size, json, keep=True)


def show(
    text: Source = None,
    encoding: Encoding = None,
    text_field: TextField = None,
    tokenizer: TokenizerOption = "char",
    vocab_size: VocabSize = None,
    json: Json = False,
) -> None:
    """Show what is in a text: size, vocabulary, rarest characters, splits, how far counting gets.

    [bold]Examples[/bold]
    minigpt-tui data show
    minigpt-tui data show book.txt --encoding latin-1
    minigpt-tui data show shakespeare --json
    """
    _describe(text, encoding, text_field, tokenizer, vocab_size, json, keep=False)


def remove(
    entry: Annotated[
        str | None,
        typer.Argument(metavar="ENTRY", help="As data lists it, its beginning, a text's source or a name."),
    ] = None,
    all: Annotated[bool, OUTPUT("Empty the cache.", "--all", metavar="")] = False,
) -> None:
    """Remove an encoded text or a download from the cache.

    Runs that kept no copy of a large text will encode it again when they are resumed.

    [bold]Examples[/bold]
    minigpt-tui data remove enwik8
    minigpt-tui data remove --all
    """
    from minigpt_core.errors import UsageError
    from minigpt_core.text_report import remove_all, remove_named
    from minigpt_tui.safetext import on_terminal

    if (entry is None) != all:
        raise UsageError("name what to remove, as minigpt-tui data lists it, or --all")
    for name in remove_all() if entry is None else remove_named(entry):
        print(f"removed {on_terminal(name)}")


def _describe(
    text: str | None,
    encoding: str | None,
    text_field: str | None,
    tokenizer: str,
    vocab_size: int | None,
    json: bool,
    keep: bool,
) -> None:
    from minigpt_core.corpus import load_encoded
    from minigpt_core.text_report import describe
    from minigpt_core.tokenizer_spec import TokenizerSpec
    from minigpt_tui.encoding import EncodingProgress
    from minigpt_tui.text_listing import print_text

    with EncodingProgress() as progress:
        found = load_encoded(
            text,
            TokenizerSpec.parse(tokenizer, vocab_size),
            progress=progress,
            encoding=encoding,
            text_field=text_field,
            keep=keep,
        )
    _print(describe(found), json, print_text)


def _print(said: Any, json: bool, table: Any) -> None:
    if not json:
        return table(said)
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(said), indent=2).decode())
