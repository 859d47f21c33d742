"""The containers' files: complete, closed, and in agreement with each other."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft201909Validator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE = yaml.safe_load(TEXT)
SCHEMA = ROOT / ".venv" / "compose" / "package" / "lib" / "schema.json"
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
EXAMPLE = (ROOT / ".env.example").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?::([-?])([^}]*))?\}")
each_service = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)


def lock() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def instructions(name: str) -> list[str]:
    return re.findall(rf"^{name} (.*)$", DOCKERFILE, re.MULTILINE)


def test_the_services_are_those_of_the_design() -> None:
    ours = {"migrate", "ray-head", "ray-worker", "api"}
    assert set(SERVICES) == ours | {"postgres", "prometheus", "grafana"}
    assert {SERVICES[name]["image"] for name in ours} == {"nas:0.1.0"}
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert SERVICES["api"]["image"].endswith(version)


@pytest.fixture
def schema() -> dict[str, Any]:
    """The Compose Specification's own, of 2021, as a package of npm ships it."""
    if not SCHEMA.is_file():
        pytest.skip("no schema of compose files: make test fetches it where there is npm")
    found: dict[str, Any] = json.loads(SCHEMA.read_text())
    return {key: value for key, value in found.items() if key != "$schema"}


def problems(compose: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    """What the schema has against it; a project's name came after the schema's time."""
    known = {key: value for key, value in compose.items() if key != "name"}
    return [f"{e.json_path}: {e.message}" for e in Draft201909Validator(schema).iter_errors(known)]


def test_the_file_is_valid_by_the_specifications_schema(schema: dict[str, Any]) -> None:
    assert problems(COMPOSE, schema) == []


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("helthcheck", {}),
        ("restart", 3),
        ("depends_on", {"postgres": {"condition": "ready"}}),
        ("ports", [{"prot": 80}]),
        ("cap_drop", "ALL"),
    ],
)
def test_the_schema_sees_what_is_wrong(schema: dict[str, Any], key: str, wrong: object) -> None:
    services = {**SERVICES, "api": {**SERVICES["api"], key: wrong}}
    (said,) = problems({**COMPOSE, "services": services}, schema)
    assert key in said


def test_the_example_names_exactly_the_variables_with_their_defaults() -> None:
    given = dict(re.findall(r"^(\w+)=(.*)$", EXAMPLE, re.MULTILINE))
    used: dict[str, set[tuple[str, str]]] = {}
    for name, kind, rest in VARIABLE.findall(TEXT):
        used.setdefault(name, set()).add((kind, rest))
    assert set(used) == set(given)
    for name, forms in used.items():
        ((kind, rest),) = forms
        if given[name]:
            assert (kind, rest) == ("-", given[name]), f"{name} has this default"
        else:
            assert kind == "?" and rest.startswith("set it to"), f"{name} must be set"


@each_service
def test_a_service_runs_as_a_user_without_privileges(service: dict[str, Any]) -> None:
    assert str(service["user"]).split(":")[0] not in ("", "0", "root")
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert not {"privileged", "cap_add", "network_mode", "pid"} & service.keys()


@each_service
def test_an_image_has_an_exact_version(service: dict[str, Any]) -> None:
    assert re.search(r":v?\d+\.\d+(\.\d+)?(-\w+)?$", service["image"])


@each_service
def test_a_service_says_when_it_is_ready_or_ends(service: dict[str, Any]) -> None:
    if service["restart"] == "no":
        assert service["healthcheck"] == {"disable": True}
    else:
        assert service["healthcheck"]["test"][0] == "CMD"


@each_service
def test_a_service_waits_for_what_it_needs(service: dict[str, Any]) -> None:
    for needed, how in service.get("depends_on", {}).items():
        ends = SERVICES[needed]["restart"] == "no"
        expected = "service_completed_successfully" if ends else "service_healthy"
        assert how == {"condition": expected}


@each_service
def test_ports_are_published_on_loopback_unless_one_says_otherwise(
    service: dict[str, Any],
) -> None:
    assert all(port.startswith("${NAS_BIND:-127.0.0.1}:") for port in service.get("ports", []))


@each_service
def test_secrets_are_files_and_never_values(service: dict[str, Any]) -> None:
    for name, value in service.get("environment", {}).items():
        if re.search("PASSWORD|TOKEN|SECRET", name):
            assert value.startswith("/run/secrets/"), name
            assert value.rpartition("/")[2] in service["secrets"]
    assert set(service.get("secrets", [])) <= COMPOSE["secrets"].keys()
    assert not re.search(r"://\w+:[^@/]+@", str(service)), "a password in a URL"


def test_every_secret_lies_in_the_folder_and_is_made_as_the_example_says() -> None:
    made = re.search(r"for name in ([\w ]+); do", EXAMPLE)
    assert made is not None
    assert set(made[1].split()) == COMPOSE["secrets"].keys()
    for name, secret in COMPOSE["secrets"].items():
        assert re.fullmatch(rf"\$\{{NAS_SECRETS:\?.*\}}/{name}", secret["file"])


def test_whoever_asks_the_database_is_given_its_password_and_nobody_else() -> None:
    asking = {name for name, s in SERVICES.items() if "NAS_STORE" in s.get("environment", {})}
    assert asking == {"migrate", "ray-head", "api"}
    for name, service in SERVICES.items():
        has_it = "postgres_password" in service.get("secrets", [])
        assert has_it == (name in asking | {"postgres"})
        assert ("database" in service.get("networks", [])) == has_it
        if name in asking:
            assert "/run/secrets/postgres_password" in service["entrypoint"][-1]


def test_the_entry_hands_the_password_to_the_command_it_runs(tmp_path: Path) -> None:
    secret = tmp_path / "a secret"
    secret.write_text("pass word\n")
    *shell, script = (part.replace("$$", "$") for part in SERVICES["api"]["entrypoint"])
    script = script.replace("/run/secrets/postgres_password", f"'{secret}'")
    show = "import os, sys; print(os.environ['PGPASSWORD'], sys.argv[1:])"
    command = [*shell, script, sys.executable, "-c", show, "a b", "c"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said == "pass word ['a b', 'c']\n"


def test_every_node_of_ray_asks_for_the_token_and_sees_the_workspace() -> None:
    assert instructions("ENV")[-1].find("RAY_AUTH_MODE=token") > 0
    for name in ("ray-head", "ray-worker", "api"):
        service = SERVICES[name]
        assert service["environment"]["RAY_AUTH_TOKEN_PATH"] == "/run/secrets/ray_token"
        assert "ray_token" in service["secrets"]
        assert "home:/data" in service["volumes"]


@each_service
def test_volumes_are_declared_and_mounted_files_exist(service: dict[str, Any]) -> None:
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        if source.startswith("./"):
            assert (ROOT / source).exists()
            assert volume.endswith(":ro")
        else:
            assert source in COMPOSE["volumes"]


def test_prometheus_asks_the_api_and_every_node_of_ray() -> None:
    config = yaml.safe_load((ROOT / "dashboard/prometheus/prometheus.yml").read_text())
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    (target,) = jobs["nas"]["static_configs"][0]["targets"]
    assert target.split(":")[0] in SERVICES
    file = jobs["nas"]["authorization"]["credentials_file"]
    assert f"> {file}" in SERVICES["migrate"]["command"][-1]
    (nodes,) = jobs["ray"]["dns_sd_configs"]
    for name in nodes["names"]:
        assert f"--metrics-export-port={nodes['port']}" in SERVICES[name]["command"]


def test_the_image_is_built_in_two_stages_and_runs_as_a_user() -> None:
    build, last = instructions("FROM")
    assert build.endswith(" AS build")
    assert last.startswith("python:3.11.") and last.endswith("-slim-bookworm")
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    assert not re.search(r"apt-get|pip |gcc|build-essential", final)
    user = re.search(r"useradd --uid (\d+)", final)
    assert user is not None and SERVICES["api"]["user"] == f"{user[1]}:{user[1]}"
    assert instructions("USER") == ["nas"]
    assert len(instructions("HEALTHCHECK")) == 1


def test_the_image_has_the_locked_versions_with_torch_first() -> None:
    installs = re.findall(r"pip install ([^&\n]*)", DOCKERFILE)
    assert "grep '^torch==' requirements.lock" in installs[0]
    assert "-c requirements.lock" in installs[1]
    assert "--no-deps" in installs[2]
    assert len(installs) == 3


def test_the_lock_has_a_version_of_everything_the_image_needs() -> None:
    locked = lock()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["postgres"]]
    assert {canonicalize_name(name) for name in locked} >= closure(wanted)
    for line in wanted:
        requirement = Requirement(line)
        assert locked[canonicalize_name(requirement.name)] in requirement.specifier


def closure(wanted: list[str]) -> set[str]:
    """Names of the packages that installing `wanted` installs."""
    found: set[tuple[str, str]] = set()
    left = [(Requirement(line), "") for line in wanted]
    while left:
        requirement, extra = left.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for new in {"", *requirement.extras}:
            if (name, new) not in found:
                found.add((name, new))
                left += [(needed, new) for needed in needs(name)]
    return {name for name, _ in found}


@cache
def needs(name: str) -> tuple[Requirement, ...]:
    return tuple(Requirement(line) for line in distribution(name).requires or [])


def test_the_build_sees_sources_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text().split("\n")
    assert lines[1] == "*"
    kept = {line[1:] for line in lines if line.startswith("!")}
    copied = set(re.findall(r"^COPY (requirements.*) \./$", DOCKERFILE, re.MULTILINE)[0].split())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {
        pattern.rstrip("*")
        for pattern in project["tool"]["setuptools"]["packages"]["find"]["include"]
    }
    assert kept == copied | packages
    assert all((ROOT / path).exists() for path in kept)
