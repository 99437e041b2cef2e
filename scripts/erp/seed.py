"""Seed a Tryton database for tests: a small firm with its books open, customers, workers and projects.

It runs inside Tryton's own environment, on the database itself, with no server: `seed.py prepare -c FILE -d NAME
-o SEED.json` makes the tables and fills them, `seed.py grow` adds to them until there are `--customers`, `--workers`
and `--projects`. What was made is written to the file, ids by name; each step is told on standard output. Everything is
the same each time, but for keys of user applications. It ends when its standard input does.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from proteus import Model, Wizard, config  # type: ignore[import-not-found]
from trytond import __series__  # type: ignore[import-not-found]

MODULES = ("ir", "res", "account_invoice", "account_product", "project_invoice", "project_revenue", "timesheet_cost")
USERS = {"admin": "admin_pw_123", "connector": "connector_pw_123", "nobody": "nobody_pw_123"}
ADMINISTERS = ("Party", "Employee", "Timesheet", "Project", "Product")
CONNECTOR_GROUPS = ["Accounting", "Project Invoice", *(f"{area} Administration" for area in ADMINISTERS)]
YEARS = (2025, 2026, 2027)
CLOSED_FROM = date(2026, 1, 1)
HIRED_FROM = date(2025, 1, 1)
LEAVER, LEFT = "HR-0005", date(2026, 6, 30)
PRODUCTS = (
    ("CONS-SR", "Senior consulting", "Hour", "150"),
    ("CONS-JR", "Junior consulting", "Hour", "90"),
    ("FIXED", "Fixed-price milestone", "Unit", "1000"),
    ("EXP", "Re-billed expense", "Unit", "1"),
)

#: So many at first; `grow` goes on from there.
FIRST = {"customers": 3, "workers": 5, "projects": 3}

#: Records written together: each call is a transaction.
bulk = 200

Seed = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("verb", choices=["prepare", "grow"])
    parser.add_argument("-c", "--config", required=True, help="trytond.conf")
    parser.add_argument("-d", "--database", required=True)
    parser.add_argument(
        "-o", "--output", required=True, type=Path, help="what was made, as JSON; `grow` reads it first"
    )
    for kind, count in FIRST.items():
        parser.add_argument(f"--{kind}", type=int, default=count)
    options = parser.parse_args()
    threading.Thread(target=end_with_parent, daemon=True).start()
    if options.verb == "prepare":
        make_tables(options.config, options.database)
    session = config.set_trytond(options.database, config_file=options.config)
    seed = found(session) if options.verb == "prepare" else json.loads(options.output.read_text())
    session._context = Model.get("res.user").get_preferences(True, {})
    add_customers(seed, options.customers)
    add_workers(seed, options.workers)
    add_projects(seed, options.projects)
    if options.verb == "prepare":
        add_users(seed)
    options.output.write_text(json.dumps(seed, indent=1) + "\n")


def end_with_parent() -> None:
    """End, with what we started, when whoever started us has been killed: nobody holds our standard input open then."""
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)


def make_tables(settings: str, database: str) -> None:
    """Let trytond-admin make the tables of every module, telling which one it is at."""
    password_file = Path(settings).with_name("admin-password")
    password_file.write_text(USERS["admin"] + "\n")
    command = [sys.executable, "-m", "trytond.cli.admin", "-vv", "-c", settings, "-d", database]
    command += ["--email", "admin@example.test", "--activate-dependencies", "-u", *MODULES]
    environment = os.environ | {"TRYTONPASSFILE": str(password_file)}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as admin:
        assert admin.stderr is not None
        for line in admin.stderr:
            if module := re.search(r"trytond\.modules (\w+) load$", line):
                tell(f"tables of module {module[1]}")
            if "INFO" not in line:
                print(line, end="", file=sys.stderr)
    password_file.unlink()
    if admin.returncode != 0:
        sys.exit(f"trytond-admin failed with status {admin.returncode}")


def found(session: Any) -> Seed:
    """Company, books, tax, terms and products of a new firm."""
    seed: Seed = {"series": __series__, "users": USERS, "keys": {}}
    seed |= {"products": {}, "customers": {}, "employees": {}, "projects": {}}
    company = add_company(seed)
    session._context = Model.get("res.user").get_preferences(True, {})
    accounts = add_chart(company)
    seed["accounts"] = {name: account.id for name, account in accounts.items()}
    add_fiscal_years(company)
    add_payment(seed, accounts)
    add_products(seed, accounts)
    return seed


def add_company(seed: Seed) -> Any:
    tell("company")
    currencies, rates = Model.get("currency.currency"), Model.get("currency.currency.rate")
    for code, name, symbol, rate in [("EUR", "Euro", "€", "1.0"), ("USD", "US Dollar", "$", "1.1")]:
        currency = currencies(name=name, code=code, symbol=symbol, rounding=Decimal("0.01"), digits=2)
        currency.save()
        rates(date=date(2020, 1, 1), rate=Decimal(rate), currency=currency).save()
        seed.setdefault("currencies", {})[code] = currency.id
    party = Model.get("party.party")(name="Nimbus Consulting")
    party.save()
    wizard = Wizard("company.company.config")
    wizard.execute("company")
    wizard.form.party, wizard.form.currency = party, currencies(seed["currencies"]["EUR"])
    wizard.execute("add")
    (company,) = Model.get("company.company").find([])
    seed["company"] = company.id
    return company


def add_chart(company: Any) -> dict[str, Any]:
    """The universal chart that Tryton brings along, in English; returns the accounts that others refer to."""
    tell("chart of accounts")
    templates, data = Model.get("account.account.template"), Model.get("ir.model.data")
    wizard = Wizard("account.create_chart")
    wizard.execute("account")
    wizard.form.account_template = templates(data.get_id("account.account_template_root_en", {}))
    wizard.form.company = company
    wizard.execute("create_account")
    accounts = Model.get("account.account")
    of_company: list[Any] = [("company", "=", company.id), ("closed", "!=", True)]
    named = {
        kind: accounts.find([*of_company, (f"type.{kind}", "=", True)], limit=1)[0]
        for kind in ("receivable", "payable", "revenue", "expense")
    }
    named |= {
        kind: accounts.find([("code", "=", code)], limit=1)[0] for kind, code in (("cash", "1.1.1"), ("tax", "6.3.6"))
    }
    form = wizard.form
    form.account_receivable, form.account_payable = named["receivable"], named["payable"]
    form.category_account_expense, form.category_account_revenue = named["expense"], named["revenue"]
    wizard.execute("create_properties")
    return named


def add_fiscal_years(company: Any) -> None:
    """Years of months, each numbering its own moves and invoices; one month is closed on purpose."""
    tell("fiscal years")
    types, sequences = Model.get("ir.sequence.type"), Model.get("ir.sequence.strict")
    (move_type,) = types.find([("name", "=", "Account Move")])
    (invoice_type,) = types.find([("name", "=", "Invoice")])
    for number in YEARS:
        year = Model.get("account.fiscalyear")(name=str(number), company=company)
        year.start_date, year.end_date = date(number, 1, 1), date(number, 12, 31)
        moves = sequences(name=f"Move {number}", sequence_type=move_type, company=company)
        invoices = sequences(name=f"Invoice {number}", sequence_type=invoice_type, company=company)
        invoices.prefix, invoices.padding = f"{number}-", 5
        sequences.save([moves, invoices])
        year.move_sequence = moves
        (numbering,) = year.invoice_sequences
        numbering.out_invoice_sequence = numbering.in_invoice_sequence = invoices
        numbering.out_credit_note_sequence = numbering.in_credit_note_sequence = invoices
        year.save()
        year.click("create_period")
    (closed,) = Model.get("account.period").find([("start_date", "=", CLOSED_FROM)])
    closed.click("close")


def add_payment(seed: Seed, accounts: dict[str, Any]) -> None:
    """What an invoice needs besides its lines: a tax, a term, a way to be paid, a journal."""
    tell("tax and payment")
    tax = Model.get("account.tax")(name="VAT 20%", description="VAT 20%", type="percentage", rate=Decimal("0.20"))
    tax.invoice_account = tax.credit_note_account = accounts["tax"]
    tax.save()
    term = Model.get("account.invoice.payment_term")(name="Net 30")
    (delta,) = term.lines.new(type="remainder").relativedeltas
    delta.days = 30
    term.save()
    journals = {
        kind: Model.get("account.journal").find([("type", "=", kind)])[0] for kind in ("cash", "revenue", "expense")
    }
    method = Model.get("account.invoice.payment.method")(name="Bank", journal=journals["cash"])
    method.credit_account = method.debit_account = accounts["cash"]
    method.save()
    seed |= {"tax": tax.id, "term": term.id, "payment_method": method.id}
    seed["journals"] = {kind: journal.id for kind, journal in journals.items()}


def add_products(seed: Seed, accounts: dict[str, Any]) -> None:
    tell("products")
    category = Model.get("product.category")(name="Services", accounting=True)
    category.account_revenue, category.account_expense = accounts["revenue"], accounts["expense"]
    category.customer_taxes.append(Model.get("account.tax")(seed["tax"]))
    category.save()
    for code, name, unit, price in PRODUCTS:
        template = Model.get("product.template")(name=name, type="service", list_price=Decimal(price))
        template.account_category = category
        (template.default_uom,) = Model.get("product.uom").find([("name", "=", unit)])
        template.code = code
        template.save()
        seed["products"][code] = template.products[0].id
        seed.setdefault("units", {})[unit] = template.default_uom.id


def add_customers(seed: Seed, count: int) -> None:
    """Customers up to CRM-<count>, each with an address and our id as an identifier."""
    term = Model.get("account.invoice.payment_term")(seed["term"])
    for numbers in missing(seed["customers"], count, "customers"):
        customers = [a_party(f"Customer {number}", f"CRM-{number:04}") for number in numbers]
        for number, customer in zip(numbers, customers, strict=True):
            customer.customer_payment_term = term
            (address,) = customer.addresses
            address.street, address.city = f"{number} Test Street", "Testville"
        Model.get("party.party").save(customers)
        seed["customers"] |= {f"CRM-{number:04}": party.id for number, party in zip(numbers, customers, strict=True)}


def add_workers(seed: Seed, count: int) -> None:
    """Workers up to HR-<count>, who cost 40 an hour; one of them has left."""
    employees, prices = Model.get("company.employee"), Model.get("company.employee_cost_price")
    company = Model.get("company.company")(seed["company"])
    for numbers in missing(seed["employees"], count, "workers"):
        parties = [a_party(f"Worker {number}", f"HR-{number:04}") for number in numbers]
        Model.get("party.party").save(parties)
        workers = [employees(party=party, company=company, start_date=HIRED_FROM) for party in parties]
        for number, worker in zip(numbers, workers, strict=True):
            worker.end_date = LEFT if f"HR-{number:04}" == LEAVER else None
        employees.save(workers)
        prices.save([prices(employee=worker, date=HIRED_FROM, cost_price=Decimal(40)) for worker in workers])
        seed["employees"] |= {f"HR-{number:04}": worker.id for number, worker in zip(numbers, workers, strict=True)}


def add_projects(seed: Seed, count: int) -> None:
    """Projects up to `Project <count>`, of the customers in turn, each with one task; time can be booked on both."""
    works, products = Model.get("project.work"), Model.get("product.product")
    customers = [Model.get("party.party")(id_) for id_ in seed["customers"].values()]
    senior, junior = products(seed["products"]["CONS-SR"]), products(seed["products"]["CONS-JR"])
    for numbers in missing(seed["projects"], count, "projects"):
        projects = [works(name=f"Project {number}", type="project") for number in numbers]
        for number, project in zip(numbers, projects, strict=True):
            project.party = customers[(number - 1) % len(customers)]
            project.project_invoice_method, project.product, project.timesheet_available = "timesheet", senior, True
            project.children.new(name="Build", type="task", timesheet_available=True, product=junior)
        works.save(projects)
        for project in projects:
            seed["projects"][project.name] = of_work(project) | {"tasks": [of_work(task) for task in project.children]}


def of_work(work: Any) -> dict[str, Any]:
    return {"id": work.id, "number": work.number, "timesheet_work": work.timesheet_works[0].id}


def a_party(name: str, identifier: str) -> Any:
    party = Model.get("party.party")(name=name)
    party.identifiers.new(type=None, code=identifier)
    return party


def missing(there: dict[str, Any], count: int, kind: str) -> list[Sequence[int]]:
    """The numbers still to be made, in bulks."""
    if count > len(there):
        tell(f"{kind} {len(there) + 1} to {count}")
    return [range(first, min(first + bulk, count + 1)) for first in range(len(there) + 1, count + 1, bulk)]


def add_users(seed: Seed) -> None:
    """`connector`, who may do what a connector does, and `nobody`, who is in no group; both with application keys."""
    tell("users")
    companies, employees = Model.get("company.company"), Model.get("company.employee")
    for login in ("connector", "nobody"):
        user = Model.get("res.user")(name=login, login=login, password=USERS[login])
        # Each list and each field takes an object of its own.
        user.companies.append(companies(seed["company"]))
        user.company = companies(seed["company"])
        if login == "connector":
            user.groups.extend(Model.get("res.group").find([("name", "in", CONNECTOR_GROUPS)]))
            user.employees.append(employees(seed["employees"]["HR-0001"]))
            user.employee = employees(seed["employees"]["HR-0001"])
        user.save()
        for application in ("rest", "timesheet"):
            access = Model.get("res.user.application")(user=user, application=application, state="validated")
            access.save()
            seed["keys"][f"{login}/{application}"] = access.key


def tell(step: str) -> None:
    print(step, flush=True)


if __name__ == "__main__":
    main()
