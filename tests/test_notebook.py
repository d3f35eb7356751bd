"""The walkthrough: it runs from top to bottom, reads well without being run, and the command puts it in place."""

import re
import resource
import subprocess
import sys
from importlib.resources import files

import nbformat
import pytest
from nbclient import NotebookClient

from minigpt_tui import cli

NOTEBOOK = files("minigpt_core").joinpath("walkthrough", "MiniTransformer.ipynb")
SECTIONS = [
    "Text becomes tokens",
    "Embeddings and positions",
    "Attention by hand",
    "The mask: proof that nobody sees the future",
    "Several heads",
    "Residual stream and LayerNorm",
    "Feed-forward",
    "The whole model against its parts",
    "The loss before training",
    "Training",
    "What the heads look at",
    "Samples and temperature",
    "Ablations: what is each part worth?",
    "The logit lens",
    "Where to go next",
]
ABLATIONS = ["No residual", "No LayerNorm", "A single head", "Queries and keys swapped", "No positions", "Size"]
FEW_STEPS = "4"


def read():
    return nbformat.reads(NOTEBOOK.read_text(encoding="utf-8"), as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell):
    """What a cell shows: printed text, pictures; pieces of printed text count as one."""
    return sorted({output.get("name", output.output_type) for output in cell.outputs})


@pytest.fixture(scope="module")
def stored():
    return read()


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The notebook, run from top to bottom with few steps, in a folder of its own."""
    folder = tmp_path_factory.mktemp("reader")
    notebook = read()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIGPT_NOTEBOOK_STEPS", FEW_STEPS)
        # Only so that `python3` is the Python that runs the tests, whatever kernels this user has installed.
        patch.setenv("JUPYTER_PREFER_ENV_PATH", "1")
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


# --- as it is stored ---


def test_every_section_explains_shows_and_asks(stored):
    text = "\n".join(cell.source for cell in stored.cells if cell.cell_type == "markdown")
    assert re.findall(r"^## (.+)$", text, re.M) == [f"{i}. {title}" for i, title in enumerate(SECTIONS, 1)]
    assert re.findall(r"^### \d+\.\d+ (.+)$", text, re.M) == ABLATIONS
    for part in re.split(r"^## ", text, flags=re.M)[1:]:
        lessons = len(ABLATIONS) + 1 if part.startswith("13.") else 1
        assert part.count("**What you should see, and why.**") == lessons, part[:40]
        assert part.count("**Exercise.**") == lessons, part[:40]


def test_it_is_valid_small_and_says_nothing_of_the_machine_it_ran_on(stored):
    nbformat.validate(stored)
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text) < 1_500_000
    assert stored.metadata.kernelspec == {"display_name": "Python 3", "language": "python", "name": "python3"}
    assert "version" not in stored.metadata.language_info
    assert not any("execution" in cell.metadata for cell in stored.cells)
    pictures_cut = re.sub(r'"image/png": "[^"]*"', "", text)
    assert not re.search(r"/tmp|/home|/root|/Users|site-packages|Warning", pictures_cut)


def test_its_stored_results_are_those_of_one_whole_run_of_full_length(stored):
    cells = code_cells(stored)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    printed = "".join(o.text for cell in cells for o in cell.outputs if o.output_type == "stream")
    full_length = re.search(r"STEPS = int\(shorter or (\d+)\)", cells[0].source)[1]
    assert f"step {int(full_length):5} " in printed


# --- run ---


def test_it_runs_without_error_or_warning_and_shows_what_is_stored(executed, stored):
    for now, then in zip(code_cells(executed), code_cells(stored), strict=True):
        assert not {"error", "stderr"} & set(kinds(now)), now.source
        assert kinds(now) == kinds(then), now.source
    shown = [kind for cell in code_cells(executed) for kind in kinds(cell)]
    assert shown.count("display_data") >= 15


# --- the command ---


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """`minigpt-tui notebook`, standing in an empty folder: (exit code, output, errors)."""

    def run(*words):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["minigpt-tui", "notebook", *words])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return left.value.code, *capsys.readouterr()

    return run


@pytest.mark.parametrize(
    ("words", "place"),
    [
        ([], "MiniTransformer.ipynb"),
        (["mine.ipynb"], "mine.ipynb"),
        (["my lessons"], "my lessons/MiniTransformer.ipynb"),
        (["my lessons/"], "my lessons/MiniTransformer.ipynb"),
        (["my lessons/a.ipynb"], "my lessons/a.ipynb"),
    ],
)
def test_the_notebook_is_put_in_place(call, tmp_path, words, place):
    (tmp_path / "my lessons").mkdir()
    code, out, err = call(*words)
    assert (code, err) == (0, "")
    assert (tmp_path / place).read_bytes() == NOTEBOOK.read_bytes()
    where, how = out.splitlines()
    assert where == place
    assert how.startswith("open it: ")
    assert how.endswith(f"jupyter lab '{place}'" if " " in place else f"jupyter lab {place}")


@pytest.mark.parametrize("words", [[], ["."], ["MiniTransformer.ipynb"]])
def test_a_notebook_that_is_there_is_never_overwritten(call, tmp_path, words):
    (tmp_path / "MiniTransformer.ipynb").write_text("my notes", encoding="utf-8")
    code, out, err = call(*words)
    assert (code, out) == (2, "")
    assert "'MiniTransformer.ipynb' is there already and stays as it is" in err
    assert err.count("\n") == 1
    assert (tmp_path / "MiniTransformer.ipynb").read_text(encoding="utf-8") == "my notes"


@pytest.mark.parametrize(
    ("destination", "code", "message"),
    [
        ("mine", 2, "'mine' does not end in .ipynb"),
        ("mine.txt", 2, "'mine.txt' does not end in .ipynb"),
        ("missing/mine.ipynb", 1, "No such file or directory: 'missing/mine.ipynb'"),
        ("missing/", 1, "No such file or directory: 'missing/MiniTransformer.ipynb'"),
    ],
)
def test_a_place_that_will_not_do_is_one_line(call, tmp_path, destination, code, message):
    got, out, err = call(destination)
    assert (got, out) == (code, "")
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_no_half_notebook(tmp_path):
    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    words = [sys.executable, "-m", "minigpt_tui.cli", "notebook"]
    result = subprocess.run(
        words, check=False, cwd=tmp_path, preexec_fn=small_files, capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    assert "cannot write 'MiniTransformer.ipynb': File too large" in result.stderr
    assert not list(tmp_path.iterdir())
