"""Logs of the command line: loguru on standard error, with the libraries' own logging led into it."""

import logging
import sys

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


def configure_logging(level: str) -> None:
    """Log from this level on (a name such as INFO) on standard error, which is looked up anew for each line."""
    name = level.upper() if level.upper() in (*_LEVELS, "TRACE", "SUCCESS") else "ERROR"
    logger.remove()
    logger.add(_write, level=name, format=FORMAT, backtrace=False, diagnose=False)
    root = logging.getLogger()
    root.handlers[:] = [*(one for one in root.handlers if not isinstance(one, _IntoLoguru)), _IntoLoguru()]
    root.setLevel(name if name in _LEVELS else "DEBUG")
    for library in QUIET:
        logging.getLogger(library).setLevel("INFO" if name in ("DEBUG", "TRACE") else "CRITICAL")
