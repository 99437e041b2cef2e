"""The states of a delivery, and which of several a record is counted under."""

IN_FLIGHT = "in_flight"
PARKED = "parked"
DEAD = "dead"
IN_DOUBT = "in_doubt"
SUBMITTED = "submitted"
POSTED = "posted"
RECONCILED = "reconciled"
DUPLICATE = "duplicate"
SUPERSEDED = "superseded"
DISCARDED = "discarded"

#: In the order of the balance sheet.
STATES = (IN_FLIGHT, PARKED, DEAD, IN_DOUBT, SUBMITTED, POSTED, RECONCILED, DUPLICATE, SUPERSEDED, DISCARDED)

#: A record with several deliveries is counted once, under the one that is furthest from done.
LEAST_DONE_FIRST = (DEAD, IN_DOUBT, PARKED, IN_FLIGHT, SUBMITTED, POSTED, RECONCILED, DUPLICATE, SUPERSEDED, DISCARDED)

#: Another record, or another revision of it, stands for it.
STOOD_FOR = (DUPLICATE, SUPERSEDED)

#: Still expecting to move by itself.
UNFINISHED = (IN_FLIGHT, PARKED, IN_DOUBT)

#: The target holds it.
IN_TARGET = (POSTED, RECONCILED)

#: What may become what. A late copy of a message finds its record further on and changes nothing.
ALLOWED_FROM: dict[str, tuple[str, ...]] = {
    IN_FLIGHT: (IN_FLIGHT, PARKED, DEAD, IN_DOUBT),
    PARKED: (IN_FLIGHT, PARKED),
    DEAD: (IN_FLIGHT, PARKED, IN_DOUBT, SUBMITTED, POSTED, DEAD),
    IN_DOUBT: (IN_FLIGHT, IN_DOUBT),
    SUBMITTED: (IN_FLIGHT, IN_DOUBT, SUBMITTED),
    POSTED: (IN_FLIGHT, IN_DOUBT, SUBMITTED, POSTED),
    RECONCILED: (IN_FLIGHT, IN_DOUBT, SUBMITTED, POSTED, RECONCILED),
    DUPLICATE: (IN_FLIGHT, PARKED, DUPLICATE),
    SUPERSEDED: (IN_FLIGHT, PARKED, DEAD, SUBMITTED, POSTED, RECONCILED, SUPERSEDED),
    DISCARDED: (DEAD, PARKED, DISCARDED),
}
