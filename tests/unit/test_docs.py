"""The pages name files, functions, commands, settings, metrics and payloads that exist, and links that lead somewhere."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
import yaml

from cvji.cli import app
from cvji.informer.loop import Phase
from cvji.jobs.kinds import BUILT_IN
from cvji.jobs.runs import State
from cvji.telemetry.metrics import DiscoveryMetrics, Metrics, Moment
from tests.simulator.cloudvision import CloudVisionSimulator, Job, Node, check_job, check_node

ROOT = Path(__file__).parents[2]
PATHS = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md"))]
PAGES = {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in PATHS}
OPERATING, DESIGN = PAGES["docs/operating.md"], PAGES["docs/design.md"]
BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
BLOCKS = {page: BLOCK.findall(text) for page, text in PAGES.items()}
SPANS = {page: re.findall(r"`([^`\n]+)`", BLOCK.sub("", text)) for page, text in PAGES.items()}
COMMAND: Any = typer.main.get_command(app)
every_page = pytest.mark.parametrize("page", PAGES)


def section(text: str, title: str) -> str:
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def blocks(page: str, language: str) -> list[str]:
    return [text for found, text in BLOCKS[page] if found == language]


# --- links and files ----------------------------------------------------------------------------


def anchors(text: str) -> set[str]:
    """GitHub's: lower case, without punctuation, with hyphens for spaces."""
    titles = re.findall(r"^#+ (.+)$", BLOCK.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@every_page
def test_every_link_leads_to_a_page_and_a_heading(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file.read_text("utf-8")), target


def test_every_section_of_the_design_that_code_names_is_there() -> None:
    code = [*ROOT.glob("cvji/**/*.py"), *ROOT.glob("tests/**/*.py")]
    found = {anchor for file in code for anchor in re.findall(r"docs/design\.md#([\w-]+)", file.read_text("utf-8"))}
    assert found
    assert found <= anchors(DESIGN)


@every_page
def test_every_file_that_is_named_exists(page: str) -> None:
    text = " ".join([*SPANS[page], *blocks(page, "mermaid")])
    for name in re.findall(r"(?<![\w/.{-])((?:cvji|tests|docs|build|manifests)/[\w./-]*)", text):
        path = name.rstrip(".")
        assert (ROOT / path).exists(), name


def named_functions() -> Iterator[tuple[str, str, str]]:
    """(page, file, name), for `name` in `file.py` and for `file.py` `name`, `name`."""
    for page, text in PAGES.items():
        flat = " ".join(text.split())
        for name, file in re.findall(r"`(\w+)` in `([\w/.-]+\.py)`", flat):
            yield page, file, name
        for file, names in re.findall(r"`([\w/.-]+\.py)`((?:,? `[A-Za-z_]\w*`(?! in `))+)", flat):
            yield from ((page, file, name) for name in re.findall(r"`(\w+)`", names))


def test_every_function_that_is_named_is_in_the_file_that_is_named() -> None:
    found = list(named_functions())
    assert len(found) > 60
    wrong = []
    for page, file, name in found:
        code = (ROOT / file).read_text("utf-8")
        if not re.search(rf"^\s*(?:def|class) {name}\b|^\s*{name}\b.*[=:]", code, re.MULTILINE):
            wrong.append(f"{page}: {name} in {file}")
    assert wrong == []


def test_every_name_in_a_step_occurs_in_a_file_of_that_step() -> None:
    steps = re.findall(r"^\d+\. (.*?)(?=\n\d+\. |\n\n)", PAGES["docs/developing.md"], re.MULTILINE | re.DOTALL)
    files = [re.findall(r"`([\w/.-]+\.\w+)`", step) for step in steps]
    assert len(steps) > 50
    for step, named in zip(steps, files, strict=True):
        code = " ".join((ROOT / file).read_text("utf-8") for file in named)
        names = re.findall(r"`([A-Za-z_]\w*)`", step)
        assert not named or [name for name in names if not re.search(rf"\b{name}\b", code)] == [], step


# --- commands -----------------------------------------------------------------------------------


def command_lines(page: str) -> list[str]:
    """What is to be typed: lines of sh blocks, and spans that begin with a program of ours."""
    lines = [line for text in blocks(page, "sh") for line in text.splitlines()]
    return [line.partition("  #")[0] for line in [*lines, *SPANS[page]]]


def recipes() -> set[str]:
    return set(re.findall(r"^([a-z][a-z0-9-]*)(?: [^:\n]*)?:", (ROOT / "justfile").read_text("utf-8"), re.MULTILINE))


@every_page
def test_every_just_command_is_a_recipe(page: str) -> None:
    for line in command_lines(page):
        for name in re.findall(r"(?:^|[ /])just ([a-z0-9-]+)", line):
            assert name in recipes(), line


@every_page
def test_every_command_of_the_program_exists_with_its_flags(page: str) -> None:
    for line in command_lines(page):
        for piece in re.split(r"&&|\||>|;", line):
            words = piece.split()
            place = next((place for place, word in enumerate(words) if word.rpartition("/")[2] == "cvji"), None)
            if place is None or words[0] in ("scp", "helm") or words[place + 1 :] in ([], ["COMMAND", "--help"]):
                continue
            command, rest = COMMAND, words[place + 1 :]
            while rest and (below := getattr(command, "commands", {}).get(rest[0])):
                command, rest = below, rest[1:]
            known = {flag for option in command.params for flag in option.opts} | {"-h", "--help"}
            assert command is not COMMAND or rest[0] in known, line
            assert {word for word in rest if word.startswith("-")} <= known, line


@every_page
def test_pytest_is_given_folders_and_files_that_exist(page: str) -> None:
    for line in command_lines(page):
        for path in re.findall(r"pytest (tests/[\w/.-]+)", line):
            assert (ROOT / path).exists(), line


# --- what the program has, and the pages are to have ----------------------------------------------


def settings(command: Any) -> set[str]:
    """The environment variables of a command and of those below it."""
    found = {name for option in command.params if (name := option.envvar)}
    return found.union(*(settings(below) for below in getattr(command, "commands", {}).values()))


@pytest.mark.parametrize("name", sorted(settings(COMMAND)))
def test_every_setting_has_a_row(name: str) -> None:
    assert re.search(rf"^\|.*`{name}`.*\|.*\|.*\|$", section(OPERATING, "Settings"), re.MULTILINE)


def test_every_job_kind_is_listed() -> None:
    listed = section(OPERATING, "Which jobs")
    assert [kind.kind for kind in BUILT_IN if not re.search(rf"\b{kind.kind}\b", listed)] == []


def test_every_metric_has_a_row() -> None:
    metrics = Metrics()
    metrics.look(lambda: Moment({}, 0, False, 0, 0.0, {}))
    families = [*metrics.registry.collect(), *DiscoveryMetrics().registry.collect()]
    counters = {f"{family.name}_total" for family in families if family.type == "counter"}
    names = counters | {family.name for family in families if family.type != "counter"}
    assert names == set(re.findall(r"`(cvji_\w+)", section(OPERATING, "Metrics")))


def test_records_are_shown_with_the_columns_that_they_have() -> None:
    (file,) = ROOT.glob("manifests/**/*jobreport*.yaml")
    (version,) = yaml.safe_load(file.read_text())["spec"]["versions"]
    columns = version["additionalPrinterColumns"]
    wide = ["NAME", *(column["name"].upper() for column in columns)]
    usual = [column["name"].upper() for column in columns if not column.get("priority")]
    for command, page, expected in ((" -o wide", OPERATING, wide), ("", PAGES["README.md"], ["NAME", *usual])):
        (shown,) = re.findall(rf"^\$ kubectl -n cloudvision get jobreports{command}\n(.*)$", page, re.MULTILINE)
        assert shown.split() == expected


def test_the_diagrams_show_every_state_of_a_run_and_every_phase_of_the_loop() -> None:
    for title, states in (("Runs", State), ("Failover", Phase)):
        (diagram,) = re.findall(r"```mermaid\nstateDiagram-v2\n(.*?)```", section(DESIGN, title), re.DOTALL)
        arrows = re.findall(r"^\s+(\w+|\[\*\]) --> (\w+|\[\*\])", diagram, re.MULTILINE)
        assert {end for arrow in arrows for end in arrow} - {"[*]"} == {state.name for state in states}


def test_the_first_page_is_short() -> None:
    lines = PAGES["README.md"].splitlines()
    assert len(lines) < 150


# --- examples that run ----------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [text for page in PAGES for text in blocks(page, "json")])
def test_payloads_are_the_services(payload: str) -> None:
    if "hostname" in payload:
        check_node(msgspec.json.decode(payload, type=Node))
    else:
        check_job(msgspec.json.decode(payload, type=Job))


def test_the_python_example_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = blocks("docs/by-hand.md", "python")
    with CloudVisionSimulator() as cloudvision:
        monkeypatch.setenv("API_TOKEN", cloudvision.token)
        monkeypatch.setenv("SSL_CERT_FILE", str(cloudvision.ca_file))
        after: dict[str, Any] = {}
        exec(example.replace("www.arista.io", cloudvision.address), after)
        assert after["delivered"] is True
        assert cloudvision.states("acme") == cloudvision.states("a") == ["RUNNING"]
