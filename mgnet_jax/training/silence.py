"""Keeps quiet what the threads of a library print of an error that is raised here as well."""

import contextlib
import gc
import logging
import os
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

LOGGERS = "absl", "asyncio"


@contextlib.contextmanager
def silenced(library: str) -> Iterator[None]:
    """Drops tracebacks of a library's threads, and of its tasks that outlive their event loop."""

    def is_other(record: logging.LogRecord) -> bool:
        return not record.exc_info and f"/{library}/" not in record.pathname

    def in_thread(what: threading.ExceptHookArgs) -> None:
        if not type(what.thread).__module__.startswith(library):
            of_threads(what)

    def unraisable(what: Any) -> None:
        if "Event loop is closed" not in str(what.exc_value):
            of_others(what)

    of_threads, of_others = threading.excepthook, sys.unraisablehook
    threading.excepthook, sys.unraisablehook = in_thread, unraisable
    for name in LOGGERS:
        logging.getLogger(name).addFilter(is_other)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
        try:
            yield
        finally:
            gc.collect()  # tasks say that they failed when they are freed
    # after an error its threads may say more, until the process ends
    threading.excepthook, sys.unraisablehook = of_threads, of_others
    for name in LOGGERS:
        logging.getLogger(name).removeFilter(is_other)


def in_short(error: BaseException) -> str:
    """What an error of a library says: what the operating system said, or its first line."""
    if found := re.search(r"os_error_code='(\d+)'", str(error)):
        return os.strerror(int(found[1]))
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}"
