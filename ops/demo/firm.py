"""The firm of the demo: three legal entities, 40 workers, 12 projects, and what they cost and bill."""

from datetime import date
from decimal import Decimal
from random import Random
from typing import Any

#: One row of an export file: column name to text (or, in JSON Lines, a JSON value).
Row = dict[str, Any]

YEAR, MONTH = 2025, 9
FIRST_DAY, LAST_DAY = date(YEAR, MONTH, 1), date(YEAR, MONTH, 30)
#: The month before is closed in every entity's books.
CLOSED_PERIOD = "2025-08"
CLOSED_DAYS = (date(2025, 8, 27), date(2025, 8, 28), date(2025, 8, 29))

ENTITIES = {"DE01": "EUR", "FR01": "EUR", "CH01": "CHF"}
WORKERS_OF = {"DE01": 18, "FR01": 12, "CH01": 10}

#: Per role: what an hour is billed at and costs, in EUR; Switzerland is dearer by SWISS_FACTOR and in CHF.
ROLES = {
    "consultant": (Decimal(115), Decimal(62)),
    "senior consultant": (Decimal(145), Decimal(81)),
    "engineer": (Decimal(130), Decimal(70)),
    "project manager": (Decimal(165), Decimal(92)),
}
SWISS_FACTOR = Decimal("1.4")

#: For whoever has no role: billed at, and costs.
STANDARD_RATE = (Decimal(125), Decimal(75))

#: The project whose record comes a day after its time entries, and the one whose rate card ran out.
LATE_PROJECT, EXPIRED_RATE_PROJECT = "P-412", "P-405"
EXPIRED_RATE_ROLE, RATE_EXPIRED_ON = "engineer", date(YEAR, MONTH, 19)

#: The new joiner whom nobody has entered in the cross-reference from PSA users to HR numbers.
WORKER_WITHOUT_IDENTITY = "E-1040"

# fmt: off
_GIVEN = (
    "Anna", "Bruno", "Clara", "David", "Elena", "Felix", "Greta", "Hugo", "Ines", "Jonas", "Karla", "Louis",
    "Marta", "Nils", "Odile", "Pavel", "Rosa", "Simon", "Tina", "Urs", "Vera", "Walter", "Yara", "Zeno",
    "Agnes", "Basil", "Chloe", "Dario", "Edith", "Fabio", "Gilles", "Heidi", "Iris", "Jean", "Katja", "Lena",
    "Marc", "Nora", "Oskar", "Petra",
)
_FAMILY = (
    "Acker", "Baumann", "Caron", "Dubois", "Egger", "Fischer", "Girard", "Huber", "Iten", "Jung", "Keller",
    "Lambert", "Meier", "Noel", "Olivier", "Petit", "Roux", "Schmid", "Thomas", "Vogel", "Weber", "Zimmer",
    "Arnaud", "Brunner", "Colin", "Denis", "Engel", "Frei", "Graf", "Hahn", "Imhof", "Joly", "Koch", "Leroy",
    "Moser", "Noll", "Oster", "Peter", "Ritter", "Simon",
)
# fmt: on
_CUSTOMERS = (
    ("C-301", "Alpen Energie", "DE", "EUR"),
    ("C-302", "Boreal Transport", "FR", "EUR"),
    ("C-303", "Cantonal Insurance", "CH", "CHF"),
    ("C-304", "Delta Foods", "DE", "EUR"),
    ("C-305", "Estuaire Ports", "FR", "EUR"),
    ("C-306", "Furka Rail", "CH", "CHF"),
    ("C-307", "Grundwerk Bau", "DE", "EUR"),
)
_PROJECTS = (
    ("P-401", "Grid billing migration", "C-301", "DE01", "EUR"),
    ("P-402", "Meter data platform", "C-301", "DE01", "EUR"),
    ("P-403", "Fleet planning", "C-302", "FR01", "EUR"),
    ("P-404", "Driver app", "C-302", "FR01", "EUR"),
    ("P-405", "Claims automation", "C-303", "CH01", "CHF"),
    ("P-406", "Policy data room", "C-303", "CH01", "CHF"),
    ("P-407", "Recipe master data", "C-304", "DE01", "EUR"),
    ("P-408", "Plant reporting", "C-304", "DE01", "EUR"),
    ("P-409", "Berth scheduling", "C-305", "FR01", "EUR"),
    ("P-410", "Timetable studio", "C-306", "CH01", "CHF"),
    ("P-411", "Site logistics", "C-307", "DE01", "EUR"),
    ("P-412", "Cross-border freight pilot", "C-306", "DE01", "CHF"),
)


def customers() -> list[Row]:
    """Accounts as the CRM exports them."""
    return [
        {"Id": key, "Name": name, "Country": country, "CurrencyIsoCode": currency, "Terms": "NET30"}
        for key, name, country, currency in _CUSTOMERS
    ]


def workers() -> list[Row]:
    """Employees as HR exports them; they take turns in the four roles."""
    rows: list[Row] = []
    for entity, count in WORKERS_OF.items():
        for _ in range(count):
            number = len(rows)
            joined = FIRST_DAY if f"E-{1001 + number}" == WORKER_WITHOUT_IDENTITY else date(2019 + number % 6, 4, 1)
            rows.append(
                {
                    "Employee_ID": f"E-{1001 + number}",
                    "First_Name": _GIVEN[number],
                    "Last_Name": _FAMILY[number],
                    "Email": f"{_GIVEN[number]}.{_FAMILY[number]}@halden.example".lower(),
                    "Job_Profile": list(ROLES)[number % len(ROLES)],
                    "Company": entity,
                    "Cost_Center": f"{entity}-{100 + number % 3 * 10}",
                    "Hire_Date": joined.isoformat(),
                    "Status": "Active",
                }
            )
    return rows


def projects() -> list[Row]:
    """Projects as the PSA exports them, the late one included."""
    return [
        {
            "project_id": key,
            "project_name": name,
            "client_id": customer,
            "subsidiary": entity,
            "currency": currency,
            "start_date": "2025-01-01",
            "end_date": "2026-12-31",
            "status": "active",
            "tasks": [
                {"id": f"{key}-1", "name": "Delivery", "billable": True},
                {"id": f"{key}-2", "name": "Workshops", "billable": True},
            ],
        }
        for key, name, customer, entity, currency in _PROJECTS
    ]


def rate_cards() -> list[Row]:
    """One card per project and role, and a standard one per project for whoever has no role.

    The card of EXPIRED_RATE_PROJECT and EXPIRED_RATE_ROLE ran out in mid-month, and that project has no standard one.
    """
    rows: list[Row] = []
    for key, _, _, _, currency in _PROJECTS:
        factor = SWISS_FACTOR if currency == "CHF" else Decimal(1)
        standard = {} if key == EXPIRED_RATE_PROJECT else {"": STANDARD_RATE}
        for number, (role, (rate, cost)) in enumerate((ROLES | standard).items(), 1):
            expired = (key, role) == (EXPIRED_RATE_PROJECT, EXPIRED_RATE_ROLE)
            rows.append(
                {
                    "card_id": f"R-{key[2:]}-{number}",
                    "project_id": key,
                    "job_code": role,
                    "bill_rate": f"{rate * factor:.2f}",
                    "cost_rate": f"{cost * factor:.2f}",
                    "currency": currency,
                    "effective_from": "2025-01-01",
                    "effective_to": RATE_EXPIRED_ON.isoformat() if expired else "",
                }
            )
    return rows


def psa_user(employee_id: str) -> str:
    """The PSA's own user id of an employee: what the cross-reference `worker:psa` translates back."""
    return f"u{int(employee_id[2:]) - 600}"


def projects_of(worker: Row, random: Random) -> list[str]:
    """Three projects a worker is staffed on, mostly of the worker's own legal entity."""
    own = [key for key, _, _, entity, _ in _PROJECTS if entity == worker["Company"]]
    abroad = [key for key, _, _, entity, _ in _PROJECTS if entity != worker["Company"]]
    return [*random.sample(own, min(2, len(own))), random.choice(abroad)]
