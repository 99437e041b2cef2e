"""Settings of one Tryton database that is posted to."""

from typing import Annotated

import msgspec
from msgspec import Meta

from connectors.http.client import Timeouts
from connectors.http.secrets import Secret


class TrytonConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the database is, who we are in it, and how much it is asked at once.

    Attributes:
      url: of the server, without the database: `https://erp.example.com`.
      password: of `user`; resolved by whoever opens the target, never written down.
      company: by name, where the user has more than one; None is the one that the user works in.
      bulk_max: documents per call. One call is one transaction: a larger one is faster, and locks more.
      find_max: references per look-up. Of both, kinds other than time entries take fewer.
      page_max: records per page of a list.
      calls_max: bulk calls at once for each kind of document, writes and look-ups apart. Of those that create time
        entries one less is under way (but one), while the next is made ready: Tryton takes longer for two such calls
        together than for one after the other. (From 8.1 on only one creates time entries.)
      warnings_skipped: what Tryton only warns of and we go on after, by the end of its name: `invoice_date_future`.
      posts_invoices: whether invoices, those of expenses included, are posted, or left as drafts to an accountant.
    """

    url: str
    database: str
    user: str
    password: Secret
    name: str = "tryton"
    company: str | None = None
    bulk_max: Annotated[int, Meta(ge=1, le=1_000)] = 400
    find_max: Annotated[int, Meta(ge=1, le=500)] = 400
    page_max: Annotated[int, Meta(ge=1, le=10_000)] = 1_000
    calls_max: Annotated[int, Meta(ge=1, le=16)] = 2
    waiting_max: Annotated[int, Meta(ge=1)] = 10_000
    connections_max: Annotated[int, Meta(ge=1, le=64)] = 8
    warnings_skipped: tuple[str, ...] = ()
    posts_invoices: bool = True
    timeouts: Timeouts = Timeouts()
