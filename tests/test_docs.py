"""What README and docs say is what the package does: names, defaults, links, examples."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any

import django
import pytest
from django.contrib.auth import get_permission_codename
from django.core.management import BaseCommand, get_commands, load_command_class
from django.template import Context, Template

from django_sse import conf, exceptions, publish, wire
from django_sse.access import authorize
from django_sse.models import Event
from django_sse.responses import HEADERS
from django_sse.sequencer import sequence
from tests.test_layers import LEVELS, NO_DJANGO, WITHIN

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = {str(path.relative_to(ROOT)): path.read_text() for path in PAGES}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT[page], re.MULTILINE | re.DOTALL)


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table below ``heading``, without its head."""
    _, found, below = f"\n{TEXT[page]}".partition(f"\n{heading}\n")
    assert found, f"{page} has no {heading!r}"
    table = re.search(r"^\|.*\n\|[-|]+\|\n((?:\|.*\n)+)", below, re.MULTILINE)
    assert table, f"{page} has no table below {heading!r}"
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table[1].splitlines()]


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


PYTHON = [(page, code) for page in TEXT for code in blocks(page, "python")]
TAGS = [
    (page, tag)
    for page in TEXT
    for code in blocks(page, "html")
    for tag in re.findall(r"\{% event_source .*? %\}", code)
]


def test_there_is_something_to_check() -> None:
    assert len(PYTHON) > 20
    assert len(TAGS) > 5


class TestCode:
    @pytest.mark.parametrize(("page", "code"), PYTHON)
    def test_it_compiles(self, page: str, code: str) -> None:
        compile(code, page, "exec")

    @pytest.mark.parametrize(("page", "code"), PYTHON)
    def test_what_it_imports_is_public(self, page: str, code: str) -> None:
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "django_sse":
                module = importlib.import_module(node.module or "")
                for alias in node.names:
                    assert alias.name in module.__all__, f"{page}: {node.module} has no {alias.name}"

    @pytest.mark.parametrize(
        ("page", "path"),
        sorted({(page, path) for page in TEXT for path in re.findall(r"\bdjango_sse(?:\.[A-Za-z_]+\b)+", TEXT[page])}),
    )
    def test_dotted_paths_lead_somewhere(self, page: str, path: str) -> None:
        if path in {f"django_sse.{get_permission_codename(action, Event._meta)}" for action in ("view", "change")}:
            return
        if path == "django_sse.tasks" and django.VERSION < (6, 0):
            pytest.skip("Django has tasks from 6.0 on")
        found: Any = importlib.import_module("django_sse")
        for name in path.split(".")[1:]:
            if not hasattr(found, name):
                importlib.import_module(f"{found.__name__}.{name}")
            found = getattr(found, name)

    @pytest.mark.django_db
    @pytest.mark.parametrize(("page", "tag"), TAGS)
    def test_every_tag_renders(self, page: str, tag: str) -> None:
        context = Context({"mine": "user.7", "since": 41})
        assert re.search(r"new (Robust)?EventSource\(", Template("{% load django_sse %}" + tag).render(context))


class TestExample:
    """The five lines of the README."""

    @pytest.mark.django_db
    @pytest.mark.parametrize("page", ["README.md", "docs/template-tag.md", "docs/client.md"])
    def test_the_tag_writes_the_script_that_is_printed(self, page: str) -> None:
        printed = [code for code in blocks(page, "html") if code.startswith("<script")]
        tag = next(code for code in blocks(page, "html") if "{% load" in code)
        publish.send_events([("public.orders", None, number) for number in range(41)])
        sequence()  # a test's transaction does not commit
        assert Template(tag).render(Context()).strip() == printed[0].strip()
        assert len(printed[0].splitlines()) == 5

    @pytest.mark.django_db
    async def test_what_it_sends_is_what_the_page_hears(self) -> None:
        from asgiref.sync import sync_to_async

        code = next(code for code in blocks("README.md", "python") if "send_event(" in code)
        await sync_to_async(exec)(compile(code, "README.md", "exec"), {})
        event = await Event.objects.aget()
        assert (event.channel, event.type) == ("public.orders", wire.MESSAGE)
        request: Any = object()
        assert await authorize(request, event.channel)

    @pytest.mark.django_db
    def test_a_named_event_gets_the_listener_that_is_printed(self) -> None:
        tag = next(tag for page, tag in TAGS if page == "docs/template-tag.md" and 'events="status"' in tag)
        assert tag in TEXT["README.md"]
        listener = blocks("docs/template-tag.md", "js")[0].strip()
        script = Template("{% load django_sse %}" + tag).render(Context())
        assert listener in script
        assert "onmessage" not in script

    def test_the_tutorials_page_listens_to_what_its_model_sends(self) -> None:
        tag = next(tag for page, tag in TAGS if page == "docs/tutorial.md")
        sent = re.search(r'send_event\("(.+?)", "(.+?)"', TEXT["docs/tutorial.md"])
        assert sent
        assert f'"{sent[1]}" events="{sent[2]} ' in tag


class TestReference:
    def test_settings(self) -> None:
        described = {
            quoted(key)[0]: eval(quoted(default)[0], {"timedelta": timedelta}) for key, default, _ in self.settings()
        }
        assert described == {name: getattr(conf.Settings, name) for name in conf.Settings.__annotations__}
        assert list(described) == list(conf.Settings.__annotations__)

    def settings(self) -> list[list[str]]:
        return rows("docs/settings.md", "# Settings, brokers and checks")

    def test_numbers_that_must_be_positive_are_told_apart(self) -> None:
        numbers = [quoted(key)[0] for key, default, _ in self.settings() if quoted(default)[0].isdigit()]
        assert set(numbers) <= {
            "RECHECK",
            "JOIN_WINDOW",
            "TRUSTED_PROXIES",
            *conf._LIMITS,
            *conf._POSITIVE,
            *conf._COUNTS,
        }

    def test_checks(self) -> None:
        known = re.findall(r'"(django_sse\.[EW]\d{3})"', (ROOT / "django_sse/checks.py").read_text())
        assert [quoted(row[0])[0] for row in rows("docs/settings.md", "## Checks")] == known
        for page, text in TEXT.items():
            assert set(re.findall(r"\bdjango_sse\.[EW]\d+", text)) <= set(known), page

    def test_brokers(self) -> None:
        described = {quoted(row[0])[0] for row in rows("docs/settings.md", "## Brokers")}
        folder = ROOT / "django_sse/brokers"
        files = {path.stem for path in folder.glob("*.py")} - {"__init__", "base", "network", "ringer"}
        assert {path.split(".")[2] for path in described} == files

    def test_extras(self) -> None:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        described = {name for row in rows("docs/settings.md", "## Brokers") for name in quoted(row[3])}
        assert described | {"daphne", "upstream"} == set(extras)

    @pytest.mark.parametrize("name", ["sse_send", "sse_tail", "sse_purge"])
    def test_commands(self, name: str) -> None:
        command = load_command_class("django_sse", name)
        own = [action for action in command.create_parser("manage.py", name)._actions if action.dest != "help"]
        base = {action.dest for action in BaseCommand().create_parser("", "")._actions}
        described = [quoted(row[0])[0].split()[0] for row in rows("docs/commands.md", f"## {name}")]
        assert described == [
            action.option_strings[0] if action.option_strings else action.dest
            for action in own
            if action.dest not in base
        ]

    def test_every_command_is_described(self) -> None:
        ours = {name for name, app in get_commands().items() if app == "django_sse"}
        assert set(re.findall(r"^## (\S+)$", TEXT["docs/commands.md"], re.MULTILINE)) == ours

    def test_errors(self) -> None:
        described = {quoted(row[0])[0] for row in rows("docs/publishing.md", "## Limits and errors")}
        assert described == set(exceptions.__all__) - {"SSEError"}

    def test_resets(self) -> None:
        described = {quoted(row[0])[0] for row in rows("docs/streams.md", "## Resets")}
        assert described == set(re.findall(r"``(\w+)``\s+\(", wire.reset.__doc__ or ""))

    def test_headers(self) -> None:
        described = {
            quoted(name)[0]: quoted(value)[0] for name, value in rows("docs/streams.md", "## Headers and status")
        }
        assert described == HEADERS


class TestDesign:
    def test_levels(self) -> None:
        table = rows("docs/design.md", "## Who may import whom")
        assert [int(number) for number, _ in table] == list(range(len(LEVELS)))
        assert [set(quoted(modules)) for _, modules in table] == LEVELS

    def test_modules_without_django(self) -> None:
        sentence = re.search(r"([^.]*) know nothing of Django", TEXT["docs/design.md"])
        assert sentence
        assert set(quoted(sentence[1])) == NO_DJANGO

    def test_pairs_within_a_level(self) -> None:
        text = re.search(r"Thirteen pairs are allowed.*?\.", TEXT["docs/design.md"], re.DOTALL)
        assert text
        pairs: set[tuple[str, str]] = set()
        for importer, imported in re.findall(r"`(\w+)`\s+imports\s+((?:`\w+`(?: and )?)+)", text[0]):
            pairs |= {(importer, name) for name in quoted(imported)}
        assert pairs == WITHIN
        assert len(WITHIN) == 13


class TestLinks:
    @pytest.mark.parametrize(
        ("page", "target"),
        [(page, target) for page in TEXT for target in re.findall(r"\]\(([^)\s]+)\)", TEXT[page])],
    )
    def test_it_leads_somewhere(self, page: str, target: str) -> None:
        if re.match(r"[a-z]+:", target):
            return
        address, _, anchor = target.partition("#")
        path = (ROOT / page).parent / address if address else ROOT / page
        assert path.is_file(), f"{page} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}

    def test_every_page_is_reached_from_the_readme(self) -> None:
        linked = set(re.findall(r"\]\((docs/[\w-]+\.md)", TEXT["README.md"]))
        assert linked == {page for page in TEXT if page.startswith("docs/")}

    def test_every_test_that_is_named_exists(self) -> None:
        defined = {
            name for path in ROOT.glob("tests/**/*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
        }
        for page, text in TEXT.items():
            assert set(re.findall(r"`(test_\w+)`", text)) <= defined, page
