"""Servers in Docker: one container each, on a free port of this machine, removed when it is stopped."""

import os
import shutil
import subprocess

from instances import CannotStart, Instance, free_ports

engine_timeout_s = 10

#: By name of the image: the port inside, the container's environment, and the URL for a port outside.
_images: dict[str, tuple[int, list[str], str]] = {
    "rabbitmq": (
        5672,
        ["RABBITMQ_DEFAULT_USER=tieout", "RABBITMQ_DEFAULT_PASS=tieout"],
        "amqp://tieout:tieout@127.0.0.1:{port}/",
    ),
    "postgres": (
        5432,
        ["POSTGRES_USER=tieout", "POSTGRES_PASSWORD=tieout"],
        "postgresql://tieout:tieout@127.0.0.1:{port}/postgres",
    ),
    "redis": (6379, [], "redis://127.0.0.1:{port}/0"),
}


def docker_answers() -> bool:
    """Whether there is a Docker whose engine runs; the command alone is worth nothing."""
    if shutil.which("docker") is None:
        return False
    try:
        asked = subprocess.run(["docker", "info"], capture_output=True, timeout=engine_timeout_s, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0


def start_container(instance: Instance, image: str) -> None:
    """Run an image in the foreground: the client passes our stop signal on, and the engine removes the container.

    Raises:
      CannotStart: the image can't be had.
    """
    if subprocess.call(["docker", "pull", "--quiet", image], stdout=subprocess.DEVNULL) != 0:
        raise CannotStart(f"{instance.name}: Docker could not pull {image}; its message is above")
    inside, settings, url = _images[image.partition(":")[0]]
    (port,) = free_ports(1)
    environment = [part for setting in settings for part in ("--env", setting)]
    instance.spawn(
        "docker", "run", "--rm", "--publish", f"127.0.0.1:{port}:{inside}", *environment, image, **dict(os.environ)
    )
    instance.url = url.format(port=port)
