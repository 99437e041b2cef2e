"""The three ways to start Tieout's processes say the same: Procfile, docker-compose.yml, Dockerfile."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from pipeline.settings import VARIABLES, Settings, read_settings

ROOT = Path(__file__).parents[2]

SERVERS = {"rabbitmq": "rabbitmq:4-management", "postgres": "postgres:17", "redis": "redis:7"}


def procfile() -> dict[str, str]:
    lines = (ROOT / "Procfile").read_text().splitlines()
    return {name: command.strip() for name, _, command in (line.partition(":") for line in lines)}


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    return dict(yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"])


def environment_of(service: dict[str, Any]) -> dict[str, str]:
    """Read a service's environment as Compose does where the caller has set nothing: `${NAME:-default}`."""
    defaults = {"POSTGRES_PASSWORD": "tieout", "RABBITMQ_PASSWORD": "tieout"}
    environment = dict(service.get("environment", {}))
    for name, default in defaults.items():
        environment = {key: value.replace(f"${{{name}:-{default}}}", default) for key, value in environment.items()}
    assert not [value for value in environment.values() if "$" in value]
    return environment


def test_the_procfile_names_the_processes_of_a_deployment():
    assert procfile() == {
        "release": "tieout migrate",
        "worker": "tieout worker --lane live",
        "bulk": "tieout worker --lane bulk",
        "clock": "tieout clock",
    }


def test_compose_runs_every_process_of_the_procfile_with_the_same_command(services):
    assert {name: service["command"] for name, service in services.items() if name not in SERVERS} == procfile()


def test_compose_brings_the_servers_it_needs_each_with_a_health_check(services):
    assert {name: services[name]["image"] for name in SERVERS} == SERVERS
    assert all(services[name]["healthcheck"]["test"][0] == "CMD" for name in SERVERS)


def test_servers_are_published_to_this_machine_only(services):
    ports = [port for name in SERVERS for port in services[name]["ports"]]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("process", sorted(procfile()))
def test_every_process_is_given_settings_that_tieout_reads_and_that_name_the_servers(services, process):
    environment = environment_of(services[process])
    known = {name for names in VARIABLES.values() for name in names}
    assert environment.keys() <= known
    settings = read_settings(environment)
    assert urlsplit(settings.database_url).hostname == "postgres"
    assert urlsplit(settings.amqp_url or "").hostname == "rabbitmq"
    assert urlsplit(settings.redis_url or "").hostname == "redis"


def test_the_processes_log_in_as_the_users_that_the_servers_are_given(services):
    settings = read_settings(environment_of(services["worker"]))
    rabbitmq, postgres = environment_of(services["rabbitmq"]), environment_of(services["postgres"])
    amqp, database = urlsplit(settings.amqp_url or ""), urlsplit(settings.database_url)
    assert (amqp.username, amqp.password) == (rabbitmq["RABBITMQ_DEFAULT_USER"], rabbitmq["RABBITMQ_DEFAULT_PASS"])
    assert (database.username, database.password) == (postgres["POSTGRES_USER"], postgres["POSTGRES_PASSWORD"])
    assert database.path == f"/{postgres['POSTGRES_DB']}"


def test_processes_start_after_a_release_that_went_well_and_healthy_servers(services):
    for process in procfile().keys() - {"release"}:
        conditions = {name: wait["condition"] for name, wait in services[process]["depends_on"].items()}
        assert conditions == {
            "release": "service_completed_successfully",
            "rabbitmq": "service_healthy",
            "redis": "service_healthy",
        }
    healthy = {"condition": "service_healthy"}
    assert services["release"]["depends_on"] == {"postgres": healthy, "rabbitmq": healthy}
    assert services["release"]["restart"] == "no"


def test_a_process_is_given_longer_to_stop_than_it_takes(services):
    grace_ms = read_settings({}).shutdown_grace_ms
    assert grace_ms == Settings(database_url="sqlite://").shutdown_grace_ms
    for process in procfile().keys() - {"release"}:
        assert int(services[process]["stop_grace_period"].removesuffix("s")) * 1000 > grace_ms


def test_every_process_that_stays_is_probed_by_the_file_it_is_told_to_keep(services):
    for process in procfile().keys() - {"release"}:
        assert services[process]["healthcheck"]["test"] == ["CMD", "tieout", "ready"]
        assert read_settings(environment_of(services[process])).ready_file is not None


def test_the_image_is_built_from_all_that_the_package_needs():
    included = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert packages | {"cli.py", "pyproject.toml", "requirements.lock", "README.md", "LICENSE"} <= included
