"""The commands for operators on the command line: errors that name the option and the fix."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cvji.cli import app
from cvji.settings import SettingsError
from tests.e2e.kit import write_kubeconfig


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["reconcile", "--yes"], "--yes goes with --end"),
        (["reconcile"], "API_SERVER"),
        (["holders", "02:00:00:00:00:01", "--at", "yesterday"], "--at is 'yesterday'"),
    ],
)
def test_an_error_names_the_option_and_what_would_be_right(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kubeconfig = write_kubeconfig(tmp_path, "http://127.0.0.1:1")
    for name in ("API_SERVER", "API_TOKEN", "API_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, SettingsError)
    assert words in str(done.exception)
