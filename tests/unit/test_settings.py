"""Settings: what is accepted, and that a refusal says what would be right."""

import math

import pytest
from typer.testing import CliRunner

from cvji.cli import app
from cvji.commands import DiscoverSettings, InformerSettings, JobSettings
from cvji.deployed import Deployed
from cvji.informer import run as informer
from cvji.settings import Mode, SettingsError, address, duration, group_kinds, names, read

GOOD = {"location": " lab ", "api_server": "cv:443", "api_token_file": "token"}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 5), ("5s", 5), ("1m", 60), ("1m30s", 90), ("6h", 21600), ("500ms", 0.5), ("0", 0), ("0.5s", 0.5)],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-5", "5x", "1e9", "5 5", "\u0665", "9" * 400, "never"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="a duration, such as"):
        duration(text)


@pytest.mark.parametrize(
    "text", ["cv.example.com", "cv:443", "10.0.0.1:8443", "[::1]:443", "[2001:db8::1]", "my_cv.a-b.io"]
)
def test_servers(text: str) -> None:
    assert address(f" {text} ") == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://cv",
        "cv/path",
        "cv:0",
        "cv:99999",
        "a b",
        "user@cv",
        "cv:",
        "a..b",
        "a.",
        "a-",
        "[:::::]",
        "[10.0.0.1]",
        f"{'a' * 64}.io",
        f"a.{'b' * 64}:443",
        ".".join(["a" * 63] * 4),
    ],
)
def test_what_is_no_server(text: str) -> None:
    with pytest.raises(ValueError, match="host or host:port"):
        address(text)


def test_lists() -> None:
    assert names("") == ()
    assert names(" a, b,a ,") == ("a", "b")
    assert group_kinds("a.io/Job,b.io/Train, c.io/X") == (("a.io", "Job"), ("b.io", "Train"), ("c.io", "X"))
    with pytest.raises(ValueError, match="names of lower-case letters"):
        names("Bad_Name")
    for text in ("Job", "a.io/", "/Job", "a.io/Job/x"):
        with pytest.raises(ValueError, match="GROUP/KIND"):
            group_kinds(text)


def test_the_defaults_of_what_is_reported_when() -> None:
    found = read(InformerSettings, GOOD, {})
    assert (found.stability_delay, found.start_max_wait) == (5, 60)
    assert (found.resync_interval, found.report_history) == (6 * 3600, 24 * 3600)
    assert found.events


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("start_max_wait", "never", math.inf),
        ("start_max_wait", " Never ", math.inf),
        ("start_max_wait", "2m", 120),
        ("report_history", "0", 0),
        ("report_history", "168h", 7 * 24 * 3600),
    ],
)
def test_durations_are_read(name: str, text: str, value: float) -> None:
    assert getattr(read(InformerSettings, GOOD | {name: text}, {}), name) == value


@pytest.mark.parametrize(
    ("name", "text"), [("report_history", "never"), ("report_history", "-1"), ("start_max_wait", "no")]
)
def test_a_wrong_duration_names_its_setting(name: str, text: str) -> None:
    with pytest.raises(SettingsError, match=rf"^{name.upper()} \(--.*it must be a duration"):
        read(InformerSettings, GOOD | {name: text}, {})


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[InformerSettings]:
    """The settings with which the informer was started."""
    found: list[InformerSettings] = []

    def run(settings: InformerSettings) -> int:
        found.append(settings)
        return 0

    monkeypatch.setattr(informer, "run", run)
    monkeypatch.setattr("cvji.cli.configure", lambda *_, **__: None)  # logging is the whole process's
    return found


@pytest.mark.parametrize(
    "text", ["a.b/C,d.e/F", "a.b/C d.e/F", " a.b/C,\n d.e/F,\n", "a.b/C\nd.e/F\n", ", a.b/C\td.e/F"]
)
def test_other_commands_read_the_informers_variable_as_it_does(text: str, started: list[InformerSettings]) -> None:
    environment = {"JOB_KINDS": text, "LOCATION": "lab"}
    assert CliRunner().invoke(app, ["informer", "--dry-run"], env=environment).exit_code == 0
    assert started[0].job_kinds == Deployed(environment).kinds() == (("a.b", "C"), ("d.e", "F"))


@pytest.mark.parametrize(("arguments", "events"), [([], True), (["--no-events"], False), (["--events"], True)])
@pytest.mark.parametrize("variable", ["", "false"])
def test_a_flag_that_is_on_by_default_can_be_taken_back(
    arguments: list[str], events: bool, variable: str, started: list[InformerSettings]
) -> None:
    environment = {"EVENTS": variable, "LOCATION": "lab"}
    done = CliRunner().invoke(app, ["informer", "--dry-run", *arguments], env=environment)
    assert done.exit_code == 0
    assert started[0].events == (events if arguments else not variable)


def test_what_is_not_given_or_empty_has_its_default() -> None:
    found = read(InformerSettings, {**GOOD, "jobconfig_mode": None, "state_namespace": "", "start_max_wait": "60s"}, {})
    assert found == InformerSettings(location="lab", api_server="cv:443", api_token_file="token")
    assert read(DiscoverSettings, {"node_name": "n", "state_namespace": " "}, {}).state_namespace == "cloudvision"


def test_texts_become_values() -> None:
    given = {"jobconfig_mode": " Node ", "start_max_wait": "never", "job_kinds": ["a.io/A,b.io/B", "c.io/C"]}
    found = read(InformerSettings, GOOD | given, {})
    assert (found.jobconfig_mode, found.start_max_wait) == (Mode.NODE, math.inf)
    assert found.job_kinds == (("a.io", "A"), ("b.io", "B"), ("c.io", "C"))


def test_a_token_is_taken_out_of_the_environment_and_not_shown() -> None:
    environment = {"API_TOKEN": "s3cret", "PATH": "/bin"}
    found = read(InformerSettings, GOOD, environment)
    assert found.api_token == "s3cret"
    assert environment == {"PATH": "/bin"}
    assert "s3cret" not in repr(found)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"jobconfig_mode": "nic"}, "JOBCONFIG_MODE (--jobconfig-mode) is 'nic': it must be one of interface, node"),
        ({"api_server": "https://cv"}, "API_SERVER (--api-server) is 'https://cv': it must be host or host:port"),
        ({"kind_retry": "soon"}, "KIND_RETRY (--kind-retry) is 'soon': it must be a duration, such as"),
        ({"kind_retry": "0"}, "KIND_RETRY (--kind-retry) is '0': it must be at least 1s"),
        ({"location": " "}, "LOCATION (--location) is not set"),
        ({"leader_elect": True}, "LEADER_ELECT needs STATE_NAMESPACE"),
        ({"api_server": None}, "API_SERVER (--api-server) is not set"),
        ({"api_token_file": None}, "no API token: set API_TOKEN_FILE (--api-token-file)"),
    ],
)
def test_what_is_wrong_is_named_by_variable_and_flag(given: dict[str, object], says: str) -> None:
    with pytest.raises(SettingsError) as raised:
        read(InformerSettings, GOOD | given, {})
    assert str(raised.value).startswith(says)


def test_what_has_no_variable_is_named_by_its_flag() -> None:
    with pytest.raises(SettingsError, match=r"^--timeout is '0': it must be more than 0$"):
        read(JobSettings, {**GOOD, "timeout": "0"}, {})
