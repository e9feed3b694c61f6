"""The README, the guide, the Dockerfile and the figures name what there is."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

pytest.importorskip("fcntl", reason="the example serves on POSIX systems")

from service.settings import Settings

ROOT = Path(__file__).parents[2]
SERVICE = ROOT / "examples" / "service"
README = (SERVICE / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "guides" / "service.md").read_text(encoding="utf-8")
DOCKERFILE = (SERVICE / "Dockerfile").read_text(encoding="utf-8")


def test_the_readme_names_every_file():
    named = set(re.findall(r"`(\w+\.py)`", README))
    assert named >= {path.name for path in SERVICE.glob("*.py")} - {"__init__.py"}
    assert all((SERVICE / name).is_file() for name in named)


@pytest.mark.parametrize("text", [README, GUIDE, DOCKERFILE], ids=["readme", "guide", "docker"])
def test_settings_that_are_named_exist(text):
    known = {f"PALATE_{field.name.upper()}" for field in dataclasses.fields(Settings)}
    named = set(re.findall(r"PALATE_[A-Z_]+", text)) - {"PALATE_KILLS"}
    assert named
    assert named <= known


def test_the_readme_names_every_endpoint():
    pytest.importorskip("fastapi", reason="needs palate[serve]")
    pytest.importorskip("prometheus_client", reason="needs palate[serve]")
    from service.app import create_app

    paths = create_app(Settings()).openapi()["paths"]
    known = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert set(re.findall(r"`((?:GET|POST) /[\w/]+)`", README)) == known


def test_the_guide_names_every_metric():
    pytest.importorskip("prometheus_client", reason="needs palate[serve]")
    from service.metrics import Metrics
    from service.model_holder import ModelHolder

    text = Metrics(ModelHolder(Settings())).text().decode()
    known = set(re.findall(r"^# HELP (palate_\w+)", text, re.MULTILINE))
    known = {name for name in known if not name.endswith("_created")}
    assert set(re.findall(r"`(palate_\w+)(?:\{[\w,]+\})?`", GUIDE)) == known


def test_the_table_of_the_guide_has_the_rows_that_the_benchmark_prints():
    source = (ROOT / "benchmarks" / "service.py").read_text(encoding="utf-8")
    printed = set(re.findall(r'show\("([^"]+)"', source))
    rows = re.findall(r"^(\S.+?)  +\d+ +[\d.]+ +[\d.]+ +[\d.]+ +\d+$", GUIDE, re.MULTILINE)
    assert set(rows) == printed


def test_what_the_dockerfile_copies_and_starts_exists():
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
    command = json.loads(re.search(r"^CMD (.+)$", DOCKERFILE, re.MULTILINE).group(1))
    assert "service.app:create_app" in command
    assert "--workers" not in command
    extra = re.search(r"\.\[(\w+)\]", DOCKERFILE).group(1)
    assert f"\n{extra} = [" in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
