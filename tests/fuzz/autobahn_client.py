"""Runs Autobahn's cases against a WebSocket server and writes what came of each as JSON.

    python -m tests.fuzz.autobahn_client ws://127.0.0.1:9001/ws/peer '9.*' …

In a process of its own: to run the cases, which are older than Python 3, `kosoku` puts stand-ins for old modules on
`sys.path` and replaces a function of `binascii`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

from kosoku import FailureError, run_fuzzingclient


async def _results(url: str, cases: list[str]) -> dict[str, dict[str, object]]:
    try:
        results = await run_fuzzingclient(url, cases or None, None)
    except FailureError as failure:
        results = failure.results
    return {
        one.case_id: {
            "passed": one.passed,
            "behavior": one.behavior.value,
            "close": one.behavior_close.value,
            "said": f"{one.result}; {one.result_close}",
        }
        for one in results
    }


if __name__ == "__main__":
    json.dump(asyncio.run(_results(sys.argv[1], sys.argv[2:])), sys.stdout)
    sys.stdout.flush()
    os._exit(0)  # kosoku's threads now and then abort an interpreter that is on its way out
