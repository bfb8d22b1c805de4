"""An agent that is asked to stop, stops: also when it is asked again and again, at any moment."""

import signal
import subprocess
import sys
import textwrap

from leptonai.core import settings

# Signals come while the main thread waits, from another thread: as fast as they can, for as long as it takes.
STORM = """
    import os, signal, threading
    from types import SimpleNamespace
    from queue import SimpleQueue
    from leptonai.agent.main import Agent

    agent = SimpleNamespace(_stopping=threading.Event(), _asked=SimpleQueue())
    signal.signal(signal.SIGTERM, lambda *_: Agent.stop(agent))
    main = threading.main_thread().ident

    def storm():
        while True:
            signal.pthread_kill(main, signal.SIGTERM)

    threading.Thread(target=storm, daemon=True).start()
    for _ in range(2000):
        agent._stopping.clear()
        Agent.wait(agent)
        assert agent._stopping.is_set()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os._exit(0)
"""


def test_signals_in_a_storm_stop_it_and_none_hangs_it() -> None:
    asked = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(STORM)],
        env=settings.environment(),
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert (asked.returncode, asked.stderr) == (0, b""), signal.strsignal(-asked.returncode)
