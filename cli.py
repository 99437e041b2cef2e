"""The command line as a table of contents: every command, where it lives, what it does. None is loaded before it is
used."""

import click

from commands.app import LazyGroup, verbose_option

COMMANDS = {
    "demo": ("commands.demo:demo", "Run one month of a believable firm, start to finish."),
    "ingest": ("commands.ingest:ingest", "Accept CSV or JSON Lines files through a mapping file."),
    "run": ("commands.run:run", "Run worker and clock in one process."),
    "worker": ("commands.worker:worker", "Run the stages of one or both lanes."),
    "clock": ("commands.clock:clock", "Publish what is owed, recover what is stranded."),
    "ready": ("commands.ready:ready", "Tell whether a worker or clock is at work: a platform's probe."),
    "migrate": ("commands.migrate:migrate", "Bring the database's schema up to date."),
    "status": ("commands.status:status", "Show what is moving, what is stuck, what it is worth."),
    "balance": ("commands.balance:balance", "Prove that both sides tie out, in count and in money."),
    "trace": ("commands.trace:trace", "Tell the life of one record."),
    "dead": ("commands.dead:dead", "Look after the records that need a person."),
    "map": ("commands.map:map_", "Look after mappings between systems; check a mapping file."),
    "period": ("commands.period:period", "Close and open accounting periods."),
    "target": ("commands.target:target", "Look at the systems that documents are posted to."),
    "stages": ("commands.stages:stages", "List the stages of the pipeline."),
    "contracts": ("commands.contracts:contracts", "Show the documents that travel, and their schemas."),
    "recover": ("commands.recover:recover", "Drive again what has stopped moving."),
    "retention": ("commands.retention:retention", "Remove payloads of what was finished long ago."),
    "doctor": ("commands.doctor:doctor", "Check every setting and server; say how to mend each."),
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
