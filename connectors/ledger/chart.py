"""The chart of accounts: which accounts can be posted to."""

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from connectors.ledger.database import Database
from connectors.ledger.tables import accounts

ASSET, LIABILITY, REVENUE, EXPENSE = "asset", "liability", "revenue", "expense"
TYPES = (ASSET, LIABILITY, REVENUE, EXPENSE)


class Account(msgspec.Struct, frozen=True):
    """One account; `type` is one of `TYPES`."""

    code: str
    name: str
    type: str


#: Used as long as nobody has written a chart of their own into the table.
DEFAULT_CHART = (
    Account("1300", "Unbilled receivables (work in progress)", ASSET),
    Account("1400", "Input tax", ASSET),
    Account("2000", "Accounts payable", LIABILITY),
    Account("2100", "Employee payables", LIABILITY),
    Account("4000", "Services revenue", REVENUE),
    Account("5000", "Project labour cost", EXPENSE),
    Account("5900", "Labour absorbed", EXPENSE),
    Account("6200", "Travel and other expenses", EXPENSE),
    Account("6210", "Air and rail travel", EXPENSE),
    Account("6220", "Accommodation", EXPENSE),
    Account("6230", "Meals and entertainment", EXPENSE),
    Account("6240", "Local transport and mileage", EXPENSE),
    Account("6250", "Materials and supplies", EXPENSE),
    Account("6260", "Telephone and internet", EXPENSE),
    Account("6270", "Software and subscriptions", EXPENSE),
    Account("6280", "Training and conferences", EXPENSE),
    Account("6290", "Other expenses", EXPENSE),
    Account("7999", "Rounding differences", EXPENSE),
)


class Chart:
    """The accounts of one database, kept in memory and read again before an account is called unknown."""

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}

    async def unknown(self, connection: AsyncConnection, codes: set[str]) -> set[str]:
        """Those of the codes that are no accounts."""
        if codes - self._accounts.keys():
            self._accounts = await read_accounts(connection)
        return codes - self._accounts.keys()


async def read_accounts(connection: AsyncConnection) -> dict[str, Account]:
    """The chart by code: the table's, or the default one while the table is empty."""
    rows = await connection.execute(select(accounts.c.code, accounts.c.name, accounts.c.type).order_by(accounts.c.code))
    chart = [Account(*row) for row in rows]
    return {account.code: account for account in chart or DEFAULT_CHART}


async def add_account(database: Database, account: Account) -> None:
    """Add an account, or rename the one with this code; the default chart is written down first if it was in use.

    Raises:
      ValueError: the type is none of `TYPES`.
    """
    if account.type not in TYPES:
        raise ValueError(f"account {account.code}: type {account.type!r} is none of {', '.join(TYPES)}")
    async with database.begin() as connection:
        chart = {**await read_accounts(connection), account.code: account}
        await connection.execute(
            database.insert(accounts).on_conflict_do_nothing(index_elements=["code"]),
            [msgspec.structs.asdict(one) for one in chart.values()],
        )
        await connection.execute(
            accounts.update().where(accounts.c.code == account.code).values(name=account.name, type=account.type)
        )
