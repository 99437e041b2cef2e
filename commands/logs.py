"""Logs of the command line: loguru on standard error, with the libraries' own logging led into it."""

import json
import logging
import os
import sys
import traceback
from typing import Any

from loguru import logger

#: Libraries that log every step of an error that they also raise: ours is the one line about it.
QUIET = ("pika", "dramatiq", "alembic", "sqlalchemy", "asyncio")
FORMAT = "{time:YYYY-MM-DD HH:mm:ss.SSS} {level: <7} {message} {extra}"


class _IntoLoguru(logging.Handler):
    """Hands records of the standard library's logging to loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        level = logger.level(record.levelname).name if record.levelname in _LEVELS else record.levelno
        logger.opt(exception=record.exc_info).log(level, "{}", record.getMessage())


_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def _write(line: str) -> None:
    sys.stderr.write(line)


def _write_json(message: Any) -> None:
    sys.stderr.write(json_line(message.record))


def json_line(record: dict[str, Any]) -> str:
    """A log record as one JSON object on a line: time, level, message, and the fields it was bound to beside them."""
    line = {"time": record["time"].isoformat(), "level": record["level"].name, "message": record["message"]}
    line |= record["extra"]
    if record["exception"] is not None:
        line["exception"] = "".join(traceback.format_exception(record["exception"].value))
    return json.dumps(line, default=str, ensure_ascii=False) + "\n"


def configure_logging(level: str, log_format: str = "text", *, process: str | None = None) -> None:
    """Log from this level on (a name such as INFO) on standard error, which is looked up anew for each line.

    Args:
      log_format: "text", or "json" for one object per line.
      process: which process of a deployment this is; every line then carries it, and the process id.
    """
    name = level.upper() if level.upper() in (*_LEVELS, "TRACE", "SUCCESS") else "ERROR"
    logger.configure(extra={"process": process, "pid": os.getpid()} if process else {})
    logger.remove()
    if log_format == "json":
        logger.add(_write_json, level=name, format="{message}")
    else:
        logger.add(_write, level=name, format=FORMAT, backtrace=False, diagnose=False)
    root = logging.getLogger()
    root.handlers[:] = [*(one for one in root.handlers if not isinstance(one, _IntoLoguru)), _IntoLoguru()]
    root.setLevel(name if name in _LEVELS else "DEBUG")
    for library in QUIET:
        logging.getLogger(library).setLevel("INFO" if name in ("DEBUG", "TRACE") else "CRITICAL")
