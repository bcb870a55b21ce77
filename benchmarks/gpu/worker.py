"""The process that measures: `python -m benchmarks.gpu.worker --events FD`, started by supervisor.py."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import queue
import sys
import threading
import traceback

from .context import Context, Sick


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--dry", action="store_true")
    options = parser.parse_args()
    pipe, lock = os.fdopen(options.events, "w", encoding="utf-8"), threading.Lock()

    def emit(**event) -> None:
        with lock:
            pipe.write(json.dumps(event) + "\n")
            pipe.flush()

    tasks: queue.Queue = queue.Queue()
    threading.Thread(target=read, args=(tasks,), daemon=True).start()
    from . import machine, place

    here = place.Place.dry_one() if options.dry else place.Place.gpu()
    emit(event="facts", facts=machine.facts(here))
    while True:
        asked = tasks.get()
        context = Context(here, emit, asked["without"], asked["seconds"])
        try:
            name = asked["module"]
            # Another package's, as tests have it, has a dot in front.
            module = importlib.import_module(name[1:] if name.startswith(".") else f"benchmarks.gpu.{name}")
            module.run(context, **asked["arguments"])
        except Sick as ill:
            emit(event="sick", why=str(ill))
            os._exit(3)
        except Exception as problem:
            traceback.print_exc()
            emit(event="row", row={"kernel": context.doing, "failed": f"{type(problem).__name__}: {problem}"[:500]})
        try:
            context.recover("at the end of the task")
        except Sick as ill:
            emit(event="sick", why=str(ill))
            os._exit(3)
        emit(event="done")


def read(tasks: queue.Queue) -> None:
    """Pass on what stdin says; once it is closed, by whatever end of the supervisor, this process ends too."""
    for line in sys.stdin:
        tasks.put(json.loads(line))
    os._exit(0)


if __name__ == "__main__":
    main()
