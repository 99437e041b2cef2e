"""The command line as a table of contents: every command and where it lives. None is loaded before it is used."""

import click

from commands.app import LazyGroup, verbose_option

COMMANDS = {
    "demo": "commands.demo:demo",
    "ingest": "commands.ingest:ingest",
    "run": "commands.run:run",
    "worker": "commands.worker:worker",
    "clock": "commands.clock:clock",
    "migrate": "commands.migrate:migrate",
    "status": "commands.status:status",
    "balance": "commands.balance:balance",
    "trace": "commands.trace:trace",
    "dead": "commands.dead:dead",
    "map": "commands.map:map_",
    "period": "commands.period:period",
    "target": "commands.target:target",
    "stages": "commands.stages:stages",
    "contracts": "commands.contracts:contracts",
    "recover": "commands.recover:recover",
    "retention": "commands.retention:retention",
    "doctor": "commands.doctor:doctor",
}


@click.group(
    name="tieout", cls=LazyGroup, commands_at=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}
)
@verbose_option
@click.version_option(package_name="tieout", prog_name="tieout")
def main() -> None:
    """Move approved work to the systems that account for it, exactly once, and prove that both sides tie out.

    Settings come from the environment (DATABASE_URL, AMQP_URL, TIEOUT_*): `tieout doctor` lists and checks them.
    Without any, everything runs embedded in one process under ./var.

    Exit status: 0 when what was asked holds, 1 when it does not, 2 for a usage or configuration error.

    \b
    Example:
      tieout demo
      tieout ingest expenses.csv.gz --map expenses.toml
      tieout balance
    """


if __name__ == "__main__":
    main()
