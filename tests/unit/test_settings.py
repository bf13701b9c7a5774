"""Settings: what is accepted, and that a refusal says what would be right."""

import math

import pytest

from cvji.cli import app
from cvji.informer import run as informer
from cvji.settings import SettingsError, duration, host_port, job_kinds, namespaces


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 5), ("5s", 5), ("1m", 60), ("1m30s", 90), ("6h", 21600), ("500ms", 0.5), ("0", 0), ("0.5s", 0.5)],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-5", "5x", "1e9", "5 5", "\u0665", "9" * 400])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(SettingsError, match="not a duration"):
        duration(text)


@pytest.mark.parametrize("text", ["cv.example.com", "cv:443", "10.0.0.1:8443", "[::1]:443", "[2001:db8::1]"])
def test_servers(text: str) -> None:
    assert host_port(f" {text} ", "API_SERVER") == text


@pytest.mark.parametrize("text", ["", "https://cv", "cv/path", "cv:0", "cv:99999", "a b", "user@cv", "cv:"])
def test_what_is_no_server(text: str) -> None:
    with pytest.raises(SettingsError, match="API_SERVER must be host or host:port"):
        host_port(text, "API_SERVER")


def test_lists() -> None:
    assert namespaces("") == ()
    assert namespaces(" a, b,a ,") == ("a", "b")
    assert job_kinds(["a.io/Job,b.io/Train", "c.io/X"]) == (("a.io", "Job"), ("b.io", "Train"), ("c.io", "X"))
    with pytest.raises(SettingsError, match="NAMESPACE"):
        namespaces("Bad_Name")
    for text in ("Job", "a.io/", "/Job", "a.io/Job/x"):
        with pytest.raises(SettingsError, match="GROUP/KIND"):
            job_kinds([text])


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[informer.Settings]:
    """What `cvji informer` would run with: each time it is called, one more."""
    found: list[informer.Settings] = []

    def run(settings: informer.Settings) -> int:
        found.append(settings)
        return 0

    monkeypatch.setattr(informer, "run", run)
    return found


def test_the_defaults_of_what_is_reported_when(given: list[informer.Settings]) -> None:
    app(["informer", "--dry-run", "--location", "lab"], standalone_mode=False)
    (found,) = given
    assert (found.stability_delay, found.start_max_wait) == (5, 60)
    assert (found.resync, found.report_history) == (6 * 3600, 24 * 3600)


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("START_MAX_WAIT", "never", "start_max_wait", math.inf),
        ("START_MAX_WAIT", " Never ", "start_max_wait", math.inf),
        ("START_MAX_WAIT", "2m", "start_max_wait", 120),
        ("REPORT_HISTORY", "0", "report_history", 0),
        ("REPORT_HISTORY", "168h", "report_history", 7 * 24 * 3600),
    ],
)
def test_durations_are_read_from_the_environment(
    given: list[informer.Settings], monkeypatch: pytest.MonkeyPatch, name: str, text: str, field: str, value: float
) -> None:
    monkeypatch.setenv(name, text)
    app(["informer", "--dry-run", "--location", "lab"], standalone_mode=False)
    assert getattr(given[0], field) == value


@pytest.mark.parametrize(
    ("name", "text"), [("REPORT_HISTORY", "never"), ("REPORT_HISTORY", "-1"), ("START_MAX_WAIT", "no")]
)
def test_a_wrong_duration_names_its_setting(
    given: list[informer.Settings], monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    monkeypatch.setenv(name, text)
    with pytest.raises(SettingsError, match=f"{name}: .*not a duration"):
        app(["informer", "--dry-run", "--location", "lab"], standalone_mode=False)
    assert given == []
