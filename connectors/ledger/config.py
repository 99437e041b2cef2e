"""Settings of the embedded ledger and of its translator."""

import msgspec


class PostingAccounts(msgspec.Struct, frozen=True, kw_only=True):
    """The accounts the translator posts to; expense accounts come from the mapping kind `expense_account`."""

    work_in_progress: str = "1300"
    input_tax: str = "1400"
    accounts_payable: str = "2000"
    employee_payables: str = "2100"
    revenue: str = "4000"
    labour_cost: str = "5000"
    labour_absorbed: str = "5900"
    rounding: str = "7999"


class LedgerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`bulk_max` documents per transaction, `find_max` references per look-up, `calls_max` of either at once."""

    name: str = "ledger"
    bulk_max: int = 500
    find_max: int = 500
    calls_max: int = 2
    waiting_max: int = 10_000
    accounts: PostingAccounts = PostingAccounts()
