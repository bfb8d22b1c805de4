"""``lepton demo``: the whole story on real data, each step shown as a user would type it."""

import csv
import http.client
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from rich.console import Console
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table

from leptonai.core.errors import MissingExtra

T = TypeVar("T")
BEARER = "Authorization: Bearer $LEPTONAI_API_KEY"
REQUESTS = 300  # sequential requests behind each latency figure


class Story:
    """Shows each command before it runs it, and keeps what came out for the last table."""

    def __init__(self, console: Console):
        self.console = console
        self.chapters: dict[str, dict[str, Any]] = {}
        self.key = ""  # with which the services are called

    def title(self, text: str) -> None:
        """Begin a chapter."""
        self.console.print()
        self.console.rule(f"[bold]{text}", align="left")

    def step(self, code: str, run: Callable[[], T]) -> T:
        """Show `code` as it would be typed, run it, and show what a prompt would show."""
        shell = code.startswith(("curl ", "lepton "))
        self.console.print(Syntax(code, "bash" if shell else "python", background_color="default"))
        result = run()
        if result is not None and not isinstance(result, tuple):
            self.console.print(result if hasattr(result, "__rich__") else str(result), style="dim", highlight=False)
        return result


@contextmanager
def private_home() -> Iterator[Path]:
    """Give the demo a home folder of its own: two demos at once, or one beside real work, do not meet."""
    import leptonai
    from leptonai.sdk import client

    folder = Path(tempfile.mkdtemp(prefix="leptonai-demo-"))
    try:
        client.connect(home=folder)
        yield folder
    finally:
        client.disconnect()
        leptonai.host = None
        shutil.rmtree(folder, ignore_errors=True)


def write_images(folder: Path) -> int:
    """Write scikit-learn's 1,797 handwritten digits as PNG files, one folder for each class; return how many."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        place = folder / str(label)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15.9).astype("uint8")).save(place / f"{number:04}.png")
    return len(digits.target)


def write_table(path: Path) -> int:
    """Write the Wisconsin breast cancer table (569 patients, 30 measurements) as CSV; return how many rows."""
    from sklearn.datasets import load_breast_cancer

    cancer = load_breast_cancer()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([*(str(name).replace(" ", "_") for name in cancer.feature_names), "diagnosis"])
        for measured, kind in zip(cancer.data, cancer.target, strict=True):
            rows.writerow([*(float(value) for value in measured), cancer.target_names[kind]])
    return len(cancer.target)


def make_key(story: Story) -> None:
    """Make the key that callers of the services send: it may do that, and nothing else."""
    from leptonai.sdk import client

    def make() -> str:
        asked = {"name": "demo", "scopes": ["service:predict"]}
        story.key = client.current().http.call("POST", "/keys", json=asked)["secret"]
        return f"export LEPTONAI_API_KEY={story.key}"

    story.title("Callers of a model need a key: this one may predict, and nothing else")
    story.step("lepton key create demo --scope service:predict", make)


def post(url: str, body: bytes, kind: str, key: str) -> list[float]:
    """Send the same request `REQUESTS` times over one connection; return each latency in milliseconds."""
    parts = urlsplit(url)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": kind}
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=30)
    took = []
    try:
        for _ in range(REQUESTS):
            start = time.perf_counter()
            connection.request("POST", parts.path, body, headers)
            answer = connection.getresponse()
            answer.read()
            took.append((time.perf_counter() - start) * 1000)
            if answer.status != 200:
                raise RuntimeError(f"{url} answered {answer.status}")
    finally:
        connection.close()
    return took


def curl(url: str, key: str, *arguments: str) -> str:
    """Call a service by plain curl, or say how to get it."""
    if shutil.which("curl") is None:
        return "(curl is not installed here; the next figures are measured over HTTP all the same)"
    command = ["curl", "--silent", "--show-error", url, "-H", f"Authorization: Bearer {key}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.stdout or done.stderr


def latency(took: list[float]) -> dict[str, float]:
    """Return the median and the 99th percentile, in milliseconds."""
    return {"p50_ms": round(statistics.median(took), 3), "p99_ms": round(statistics.quantiles(took, n=100)[98], 3)}


def images(story: Story, folder: Path) -> None:
    """Chapter one: a folder of images."""
    import torch
    from torch import nn

    import leptonai

    torch.manual_seed(0)
    count = write_images(folder / "digits")
    story.title(f"1. Images: {count} handwritten digits, a folder for each class")
    dataset = story.step(
        'dataset = leptonai.create_dataset("digits", files="digits/")',
        lambda: leptonai.create_dataset("digits", files=folder / "digits"),
    )
    train, test = story.step("train, test = dataset.split(train_size=0.8)", lambda: dataset.split(train_size=0.8))
    model = story.step(
        """model = leptonai.Model(nn.Sequential(
    nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Linear(1024, 128), nn.ReLU(), nn.Linear(128, 10)))""",
        lambda: leptonai.Model(
            nn.Sequential(
                nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
                nn.Flatten(), nn.Linear(1024, 128), nn.ReLU(), nn.Linear(128, 10),
            )
        ),
    )  # fmt: skip
    story.step(
        'model.compile(optimizer="adam", loss="cross_entropy", metrics=["accuracy"])',
        lambda: model.compile(optimizer="adam", loss="cross_entropy", metrics=["accuracy"]),
    )
    story.step(
        "model.fit(train, epochs=12, validation_data=test)",
        lambda: model.fit(train, epochs=12, validation_data=test),
    )
    report = story.step("report = model.evaluate(test)", lambda: model.evaluate(test))
    version = story.step(
        'version = model.publish("digits", aliases=["champion"])',
        lambda: model.publish("digits", aliases=["champion"]),
    )
    service = story.step('service = version.deploy("digits")', lambda: version.deploy("digits"))
    picture = sorted((folder / "digits" / "7").iterdir())[0]
    header = "Content-Type: image/png"
    story.step(
        f'curl {service.url} -H "{BEARER}" -H "{header}" --data-binary @{picture}',
        lambda: curl(service.url, story.key, "-H", header, "--data-binary", f"@{picture}"),
    )
    took = post(service.url, picture.read_bytes(), "image/png", story.key)
    story.chapters["images"] = {
        "rows": count,
        "accuracy": report.metrics["accuracy"],
        "f1": report.metrics["f1"],
        "bytes": version.bytes,
        "url": service.url,
        **latency(took),
    }


def table(story: Story, folder: Path) -> None:
    """Chapter two: a table."""
    from sklearn.linear_model import LogisticRegression

    import leptonai

    path = folder / "breast_cancer.csv"
    count = write_table(path)
    story.title(f"2. A table: {count} patients, 30 measurements, a diagnosis")
    dataset = story.step(
        'dataset = leptonai.create_dataset("breast-cancer", files="breast_cancer.csv")',
        lambda: leptonai.create_dataset("breast-cancer", files=path),
    )
    train, test = story.step("train, test = dataset.split(train_size=0.8)", lambda: dataset.split(train_size=0.8))
    model = story.step(
        "model = leptonai.Model(LogisticRegression(max_iter=1000))",
        lambda: leptonai.Model(LogisticRegression(max_iter=1000)),
    )
    story.step("model.fit(train)", lambda: model.fit(train))
    report = story.step("report = model.evaluate(test)", lambda: model.evaluate(test))
    version = story.step(
        'version = model.publish("breast-cancer", aliases=["champion"])',
        lambda: model.publish("breast-cancer", aliases=["champion"]),
    )
    service = story.step('service = version.deploy("breast-cancer")', lambda: version.deploy("breast-cancer"))
    row = {k: v for k, v in dataset.head(1)[0].items() if k != "diagnosis"}
    body = json.dumps({"rows": [row]})
    example = folder / "patient.json"
    example.write_text(body)
    header = "Content-Type: application/json"
    story.step(
        f'curl {service.url} -H "{BEARER}" -H "{header}" -d @{example}',
        lambda: curl(service.url, story.key, "-H", header, "-d", f"@{example}"),
    )
    took = post(service.url, body.encode(), "application/json", story.key)
    story.chapters["table"] = {
        "rows": count,
        "roc_auc": report.metrics["roc_auc"],
        "accuracy": report.metrics["accuracy"],
        "bytes": version.bytes,
        "url": service.url,
        **latency(took),
    }


def summary(story: Story, seconds: float, home: Path) -> None:
    """Show the last table, and where to look next."""
    grid = Table(title=f"From files to live endpoints in {seconds:.0f} s", title_justify="left")
    for name in ("", "rows", "quality on unseen rows", "model", "p50", "p99"):
        grid.add_column(name, no_wrap=True)
    for name, chapter in story.chapters.items():
        quality = ", ".join(f"{k} {chapter[k]:.3f}" for k in ("roc_auc", "accuracy", "f1") if k in chapter)
        size = f"{chapter['bytes'] / 1024:.0f} KiB"
        grid.add_row(
            name, str(chapter["rows"]), quality, size, f"{chapter['p50_ms']:.2f} ms", f"{chapter['p99_ms']:.2f} ms"
        )  # fmt: skip
    story.console.print()
    story.console.print(grid)
    for name, chapter in story.chapters.items():
        story.console.print(f" {name:7} {chapter['url']}")
    story.console.print(
        Panel(
            f"export LEPTONAI_HOME={home}\n"
            "lepton dataset list          the encrypted versions\n"
            "lepton run list              everything that ran; lepton run logs ID\n"
            "lepton model get digits      metrics, lineage, signature\n"
            "lepton service list          what answers, and where\n"
            "docs/quickstart.md           the same with your own data",
            title="Where to look next",
            title_align="left",
        )
    )


def demo(once: bool = False, output: str = "table") -> None:
    """Tell the story; with `once` end after it, else stay up until Ctrl-C. `output` "json": a JSON object at the end."""
    console = Console(stderr=output == "json", soft_wrap=True)
    story = Story(console)
    start = time.monotonic()
    try:
        import sklearn
        import torch
    except ImportError as error:
        raise MissingExtra(
            f"the demo needs {error.name}: install it with  pip install 'lepton-ai-sdk[platform,torch]'"
        ) from error
    del sklearn, torch
    with private_home() as home:
        make_key(story)
        images(story, home / "data")
        table(story, home / "data")
        seconds = time.monotonic() - start
        summary(story, seconds, home)
        if output == "json":
            first = story.chapters["images"]
            facts = {
                **story.chapters,
                "service_url": first["url"],
                "p50_ms": first["p50_ms"],
                "p99_ms": first["p99_ms"],
                "seconds": round(seconds, 2),
            }
            Console(soft_wrap=True).print_json(data=facts, indent=None)
        if once:
            return
        console.print("\nEverything stays up until you press Ctrl-C.", style="bold")
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            console.print("Stopping; the demo's folder is removed.")
