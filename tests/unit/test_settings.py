"""Settings: what is accepted, and that a refusal says what would be right."""

import pytest

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
