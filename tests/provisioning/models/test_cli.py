"""`borough models` on the command line: output, exit codes, hints."""

import json
from pathlib import Path

from click.testing import CliRunner

from edge.cli import EXIT_FAILED, borough
from provisioning.models.registry import load_registry
from provisioning.models.store import ModelStore


def test_list_shows_the_registry_and_what_is_here(store: ModelStore) -> None:
    """One row a model, as JSON and as a table."""
    shown = CliRunner().invoke(borough, ["models", "list", "--json", "--store", str(store.root)])
    rows = {row["name"]: row for row in json.loads(shown.output)}
    assert set(load_registry()) <= set(rows)
    assert rows["silero-vad"]["here"] is True
    assert "silero-vad" in CliRunner().invoke(borough, ["models", "list", "--store", str(store.root)]).output


def test_verify_names_a_damaged_file_and_the_command_that_mends_it(store: ModelStore, tmp_path: Path) -> None:
    """Exit code and hint on stderr, machine-readable with --json."""
    whole = CliRunner().invoke(borough, ["models", "verify", "silero-vad", "--store", str(store.root)])
    assert whole.exit_code == 0
    copy = tmp_path / "silero-vad"
    copy.mkdir()
    for path in store.directory("silero-vad").iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    (copy / "silero_vad_16k_op15.onnx").write_bytes(b"")
    failed = CliRunner().invoke(borough, ["models", "verify", "--store", str(tmp_path)])
    assert failed.exit_code == EXIT_FAILED
    assert "silero_vad_16k_op15.onnx is truncated" in failed.stderr
    assert "hint: borough models fetch silero-vad" in failed.stderr
    as_json = CliRunner().invoke(borough, ["models", "verify", "--json", "--store", str(tmp_path)])
    assert json.loads(as_json.stderr)["error"]["code"] == "model.verification"


def test_fetch_wants_a_name(tmp_path: Path) -> None:
    """Nothing to do is a usage error; an unknown name fails before anything is downloaded."""
    assert CliRunner().invoke(borough, ["models", "fetch", "--store", str(tmp_path)]).exit_code == 2
    unknown = CliRunner().invoke(borough, ["models", "fetch", "nonsense", "--store", str(tmp_path)])
    assert unknown.exit_code == EXIT_FAILED
    assert "hint: borough models list" in unknown.stderr


def test_import_copies_an_operators_files(store: ModelStore, tmp_path: Path) -> None:
    """GGUF, GGML and voices get a manifest; anything else is refused with a reason."""
    target = tmp_path / "store"

    def run(path: Path, kind: str) -> tuple[int, str]:
        done = CliRunner().invoke(borough, ["models", "import", str(path), "--kind", kind, "--store", str(target)])
        return done.exit_code, done.stderr

    gguf = tmp_path / "My Model.gguf"
    gguf.write_bytes(b"GGUF" + b"\0" * 100)
    assert run(gguf, "llm")[0] == 0
    assert ModelStore(root=target).verify("My Model").engine == "llama.cpp"
    ggml = store.directory("whisper-tiny.en-ggml") / "whisper-tiny.en-ggml.bin"
    assert run(ggml, "asr")[0] == 0
    voice = store.directory("en_US-joe-medium") / "en_US-joe-medium.onnx"
    assert run(voice, "tts")[0] == 0
    assert len(ModelStore(root=target).verify("en_US-joe-medium").files) == 2
    assert "is no whisper.cpp model" in run(gguf, "asr")[1]
    assert "is no llama.cpp model" in run(ggml, "llm")[1]
    assert "needs My Model.gguf.json beside it" in run(gguf, "tts")[1]


def test_import_stays_inside_the_store(tmp_path: Path) -> None:
    """A name that would lead out of the store is refused."""
    gguf = tmp_path / "m.gguf"
    gguf.write_bytes(b"GGUF")
    arguments = ["models", "import", str(gguf), "--kind", "llm", "--name", "../m", "--store", str(tmp_path / "store")]
    done = CliRunner().invoke(borough, arguments)
    assert done.exit_code == EXIT_FAILED
    assert "'../m' is no name for a model" in done.stderr
