"""Rows 7, 8 and 9: processes that die, and versions that change, while requests are answered."""

import time

import psutil
from serving.process import NotStarted

from robustness.product import Product, Stream, kill
from robustness.report import Found, nothing

_THREADS = 8
BROKEN_SAID = "damaged"


def workers(product: Product, seconds: float, every: float) -> Found:
    """Row 7: one of the processes that compute is killed, in turn."""
    found = product.workers()
    if len(found) < 1:
        return nothing("no process of its own for the model")
    count, killed = len(found), 0
    with Stream(product, _THREADS) as stream:
        start = time.perf_counter()
        while time.perf_counter() - start < seconds:
            time.sleep(every)
            alive = [pid for pid in found if psutil.pid_exists(pid)] or product.tree()[1:]
            if not alive:
                break
            victim = alive[killed % len(alive)]
            kill([victim])
            killed += 1
            found = _next(product, found, victim)
        time.sleep(1.0)
    last = max((when for when in stream.bad), default=0.0)
    back = _again(product)
    short = f"{stream.failed} of {stream.total} failed, {stream.hung} hung, {killed} kills"
    short += "" if back is not None else "; gone afterwards"
    figures = {**stream.figures(), "kills": killed, "workers": count, "answers_afterwards": back is not None}
    figures["last_failure_after_last_kill"] = bool(last)
    product.revive()
    return Found(not stream.failed and not stream.hung and back is not None, short, figures)


def _next(product: Product, before: list[int], victim: int) -> list[int]:
    """Return the others and whoever came in the place of the one that was killed, once it is there."""
    known = set(product.tree()) | set(before)
    until = time.perf_counter() + 3.0
    others = [pid for pid in before if pid != victim]
    while time.perf_counter() < until:
        time.sleep(0.1)
        if product.name in ("ours", "ray"):
            now = product.workers()
            if len(now) >= len(before):
                return now
        elif fresh := [pid for pid in product.tree() if pid not in known]:
            return others + fresh
    return others


def _again(product: Product, seconds: float = 15.0) -> float | None:
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        if product.works(2.0) is not None:
            return time.perf_counter() - start
        time.sleep(0.1)
    return None


def main_process(product: Product) -> Found:
    """Row 8: the first process is killed; what it leaves behind is looked at, and it is started again."""
    family = product.tree()
    kill([product.main])
    orphans = family
    until = time.perf_counter() + 5.0
    while orphans and time.perf_counter() < until:
        time.sleep(0.1)
        orphans = [pid for pid in orphans if _runs(pid)]
    begun = time.perf_counter()
    lost = 0
    try:
        product.stop()
        took = product.start()
    except NotStarted as error:
        return Found(False, f"not back: {str(error)[:80]}", {"orphans": len(orphans)})
    lost = int(product.works() is None)
    short = f"back in {took:.1f} s, {'lost' if lost else 'nothing lost'}" + (
        f", {len(orphans)} orphans" if orphans else ""
    )
    figures = {
        "restart_s": round(took, 2),
        "orphans": len(orphans),
        "state_lost": lost,
        "whole_s": round(time.perf_counter() - begun, 2),
    }
    return Found(not lost and not orphans, short, figures)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def updates(product: Product, times: int, restarts: int) -> Found:
    """Row 9. Who can only be started again with the other version is, `restarts` times; we and Ray move `times`."""
    rolling = product.name in ("ours", "ray")
    count = times if rolling else restarts
    took: list[float] = []
    with Stream(product, 4) as stream:
        time.sleep(0.5)
        for number in range(count):
            start = time.perf_counter()
            try:
                product.update(number)
            except NotStarted as error:
                return Found(False, f"update {number + 1}: {str(error)[:80]}", stream.figures())
            took.append(time.perf_counter() - start)
        time.sleep(0.5)
    figures = {
        **stream.figures(),
        "updates": count,
        "seconds_each": round(sum(took) / max(1, len(took)), 2),
        "way": "rolling" if rolling else "restart",
    }
    short = f"{stream.failed} of {stream.total} failed in {count} {'updates' if rolling else 'restarts'}, {figures['seconds_each']} s each"
    green = not stream.failed
    if product.name == "ours":
        broken = _broken(product)
        figures |= broken
        green = green and broken["broken_answers"] == 0 and not broken["broken_failed"]
        short += f"; broken version: {broken['broken_answers']} answers, {broken['broken_failed']} failed"
    return Found(green, short, figures)


def _broken(product: Product) -> dict[str, int | str]:
    """Deploy a version whose file is damaged, and see who answers meanwhile."""
    from serving.ours import SERVICE

    import leptonai
    from robustness.ours import BROKEN

    before = leptonai.get_service(SERVICE).refresh().status
    with Stream(product, 4) as stream:
        leptonai.get_model(f"models:/cnn/{BROKEN}").deploy(SERVICE, wait=False)
        until = time.perf_counter() + 10.0
        while time.perf_counter() < until:
            status = leptonai.get_service(SERVICE).refresh().status
            if status.rev != before.rev and (status.state == "failed" or BROKEN_SAID in status.message):
                break
            time.sleep(0.1)
        time.sleep(0.5)
    said = {
        "broken_answers": stream.versions.get(str(BROKEN), 0),
        "broken_failed": stream.failed,
        "broken_total": stream.total,
    }
    product.update(1)  # so that what follows does not begin with a version that cannot be loaded
    return {**said, "broken_said": f"{status.state}: {status.message[:160]}"}
